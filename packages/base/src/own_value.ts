/** What a record holds under a name that a user chose, which may be `constructor` or `__proto__`. */
export function ownValue<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined;
}
