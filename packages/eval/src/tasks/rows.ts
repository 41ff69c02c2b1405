/** What stands in the columns of a row, whether its data set comes from the Hub or from its authors. */
import { shown, UserError } from '@stickbreaking/base';
import type { Row } from './definition.js';

/** @throws UserError where the column holds no text */
export function textOf(row: Row, column: string): string {
  const value = row[column];
  if (typeof value === 'string') return value;
  throw wrong(column, value, 'text');
}

/** @throws UserError where the column holds no list of texts */
export function textsOf(row: Row, column: string): string[] {
  const value = row[column];
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value;
  throw wrong(column, value, 'a list of texts');
}

/** A whole number, or one written as text. */
export function integerOf(row: Row, column: string): number {
  const value = row[column];
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  if (typeof number === 'number' && Number.isInteger(number)) return number;
  if (typeof number === 'bigint') return Number(number);
  throw wrong(column, value, 'a whole number');
}

/** Choices and their labels: two lists on the Hub, a list of pairs in some original releases. */
export function labelledChoices(row: Row): { text: string[]; label: string[] } {
  const { choices } = row;
  if (Array.isArray(choices)) {
    const pairs = choices as Row[];
    return { text: pairs.map((one) => textOf(one, 'text')), label: pairs.map((one) => textOf(one, 'label')) };
  }
  if (typeof choices !== 'object' || choices === null) throw wrong('choices', choices, 'lists of text and label');
  return { text: textsOf(choices as Row, 'text'), label: textsOf(choices as Row, 'label') };
}

/** The index of the choice with a label. */
export function answerByLabel(row: Row, label: string): number {
  const { label: labels } = labelledChoices(row);
  const index = labels.indexOf(label);
  if (index >= 0) return index;
  throw new UserError(`the answer '${shown(label)}' is none of the choices (${shown(labels.join(', '))}).`);
}

function wrong(column: string, value: unknown, expected: string): UserError {
  const found =
    value === undefined ? 'nothing' : value === null ? 'null' : shown(JSON.stringify(value) ?? String(value));
  return new UserError(`column '${shown(column)}' holds ${found.slice(0, 60)}; expected ${expected}.`);
}

/** Adds to a mistake in a row where the row stands. */
export function placed<T>(where: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`${where}: ${error.message}`, { cause: error });
  }
}
