import { expect, it } from 'vitest';
import { ownValue } from './own_value.js';

it('is what the record holds itself, never what every object has', () => {
  expect(ownValue({ test: 1 }, 'test')).toBe(1);
  for (const name of ['__proto__', 'constructor', 'toString']) expect(ownValue({ test: 1 }, name)).toBeUndefined();
  expect(ownValue(Object.fromEntries([['__proto__', 2]]), '__proto__')).toBe(2);
});
