import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { RunRecord } from '../run_record.js';
import { maskedCrc, record } from './event_file.js';

const folder = mkdtempSync(join(tmpdir(), 'tensorboard-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** CRC-32C bit by bit, as RFC 3720 defines it. */
function crc(bytes: Uint8Array): number {
  let rest = 0xffffffff;
  for (const byte of bytes) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ 0x82f63b78 : rest >>> 1;
  }
  return ~rest >>> 0;
}

type Field = number | Buffer;

/** The fields of a protocol buffer by their numbers, from its wire format alone. */
function fieldsOf(bytes: Buffer): Map<number, Field[]> {
  const fields = new Map<number, Field[]>();
  let at = 0;
  const varint = () => {
    for (let value = 0, shift = 1; ; shift *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const kind = key & 7;
    const size = kind === 1 ? 8 : kind === 5 ? 4 : kind === 2 ? varint() : 0;
    const part = bytes.subarray(at, at + size);
    at += size;
    const number = () => (kind === 1 ? part.readDoubleLE() : kind === 5 ? part.readFloatLE() : varint());
    fields.set(key >>> 3, [...(fields.get(key >>> 3) ?? []), kind === 2 ? part : number()]);
  }
  return fields;
}

/** Events of a file: its records' checksums are checked, their contents read field by field. */
function eventsIn(path: string) {
  const bytes = readFileSync(path);
  const mask = (sum: number) => (((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0;
  const events = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8)).toBe(mask(crc(bytes.subarray(at, at + 8))));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(mask(crc(data)));
    const fields = fieldsOf(data);
    const values = (fields.get(5) ?? []).flatMap((summary) => fieldsOf(summary as Buffer).get(1) ?? []);
    events.push({
      time: fields.get(1)![0],
      step: fields.get(2)?.[0] ?? 0,
      version: fields.get(3)?.[0]?.toString(),
      isStart: fields.has(7) && fieldsOf(fields.get(7)![0] as Buffer).get(1)?.[0] === 1,
      values: Object.fromEntries(
        values.map((value) => {
          const own = fieldsOf(value as Buffer);
          return [own.get(1)![0]!.toString(), own.get(2)?.[0] ?? 0];
        }),
      ),
    });
    at += 16 + length;
  }
  return events;
}

const step = (n: number) => ({
  ...{ step: n, stage: 0, tokens: 8 * n, loss: n === 2 ? null : 4 / n, learningRate: 0.5, gradientNorm: 0.25 },
  ...{ tokensPerSecond: 1024, flopsPerSecond: 2 ** 40, memoryBytes: 2 ** 30 },
  ...{ balanceLoss: 1.5, zLoss: 2.5, busiest: 3.5, idleExperts: n },
});

describe('event files', () => {
  it('have the checksums of RFC 3720, masked', () => {
    expect(crc(Buffer.from('123456789'))).toBe(0xe3069283);
    for (const text of ['', 'a', '123456789', 'x'.repeat(1000)]) {
      const sum = crc(Buffer.from(text));
      expect(maskedCrc(Buffer.from(text))).toBe((((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0);
    }
    expect(record(Buffer.from('ab')).readBigUInt64LE()).toBe(2n);
  });

  it('hold what metrics.jsonl holds, and a run that goes on says where', async () => {
    const directory = join(folder, 'run');
    mkdirSync(directory);
    const first = await RunRecord.open(directory, 0, { tensorboard: true });
    for (const n of [1, 2, 3]) first.append(step(n));
    first.append({ step: 3, tokens: 24, validationLoss: 1.5, attention: { distance: [2, 8], remainder: [0.5, 0] } });
    first.sync();
    first.close();
    const second = await RunRecord.open(directory, 2, { tensorboard: true });
    second.append(step(3));
    second.close();
    const files = readdirSync(join(directory, 'tensorboard')).sort();
    expect(files).toHaveLength(2);
    expect(files[0]).toMatch(/^events\.out\.tfevents\.\d{10}\.\d{3}\./);
    const [one, other] = files.map((name) => eventsIn(join(directory, 'tensorboard', name)));
    expect(one!.map(({ step: at, version, isStart }) => [at, version, isStart])).toEqual([
      [0, 'brain.Event:2', false],
      [1, undefined, true],
      ...[1, 2, 3, 3].map((at) => [at, undefined, false]),
    ]);
    expect(one!.slice(2).map(({ values }) => values)).toEqual([
      {
        ...{ 'loss/training': 4, 'training/learning_rate': 0.5, 'training/gradient_norm': 0.25 },
        ...{ 'speed/tokens_per_second': 1024, 'speed/flops_per_second': 2 ** 40, 'speed/memory_bytes': 2 ** 30 },
        ...{ 'routing/balance_loss': 1.5, 'routing/z_loss': 2.5, 'routing/busiest': 3.5, 'routing/idle_experts': 1 },
      },
      expect.not.objectContaining({ 'loss/training': expect.anything() }),
      expect.objectContaining({ 'loss/training': Math.fround(4 / 3) }),
      {
        ...{ 'loss/validation': 1.5, 'attention_distance/layer_0': 2, 'attention_distance/layer_1': 8 },
        ...{ 'attention_remainder/layer_0': 0.5, 'attention_remainder/layer_1': 0 },
      },
    ]);
    expect(other!.map(({ step: at, isStart }) => [at, isStart])).toEqual([
      [0, false],
      [3, true],
      [3, false],
    ]);
    const [begun, written] = [one![0]!.time, one![2]!.time] as number[];
    expect(written! - begun!).toBeGreaterThanOrEqual(-1);
    expect(Math.abs(written! - Date.now() / 1000)).toBeLessThan(3600);
  });

  it('are written only where they are asked for', async () => {
    mkdirSync(join(folder, 'without'));
    (await RunRecord.open(join(folder, 'without'), 0, {})).close();
    expect(readdirSync(join(folder, 'without'))).toEqual(['metrics.jsonl']);
  });
});
