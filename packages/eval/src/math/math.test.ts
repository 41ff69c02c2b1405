import { describe, expect, it } from 'vitest';
import { compareLatex } from './equivalence.js';
import { parseLatex } from './latex.js';
import { answerIn, goldAnswer, INVALID_ANSWER, lastBoxed, normaliseAnswer } from './minerva_answer.js';

describe('answers', () => {
  it('stand in the first sentence of that form', () => {
    const sentence = (answer: string) => `Final Answer: The final answer is ${answer}. I hope it is correct.`;
    expect(answerIn(`So.\n${sentence('$1$')} ${sentence('$2$')}`)).toBe('$1$');
    // The question's own end completes a sentence that was cut off.
    expect(answerIn('Final Answer: The final answer is $3$. ')).toBe('$3$');
    expect(answerIn('The answer is 3.')).toBe(INVALID_ANSWER);
    expect(answerIn(sentence('$a\nb$'))).toBe(INVALID_ANSWER);
  });

  it('stand in the last box of a solution', () => {
    expect(lastBoxed('\\boxed{1} or \\boxed{\\frac{1}{2}} $')).toBe('\\boxed{\\frac{1}{2}}');
    expect(lastBoxed('so $\\boxed 7$ it is')).toBe('\\boxed 7');
    expect(lastBoxed('\\fbox{3}')).toBe('\\fbox{3}');
    expect([lastBoxed('none'), lastBoxed('\\boxed{1')]).toEqual([undefined, undefined]);
    expect(goldAnswer('so $\\boxed{x^{2}}$')).toBe('x^{2}');
    expect(() => goldAnswer('so 3')).toThrow('no answer in a \\boxed{…}');
  });

  it.each([
    ['x = 5', '5'],
    ['$\\frac12$', '\\frac{1}{2}'],
    ['\\sqrt3', '\\sqrt{3}'],
    ['10,000\\text{ dollars}', '10000'],
    ['\\boxed{3} units', '3'],
    ['\\$5.50', '5.50'],
    ['90^\\circ', '90'],
    ['\\textbf{a} and $b$ and $c$', '$b$'.replaceAll('$', '')],
    ['1,2', '12'],
    ['the left half', 'thelehalf'],
  ])('%s is made %s', (answer, normal) => {
    expect(normaliseAnswer(answer)).toBe(normal);
  });
});

describe('LaTeX is read as sympy reads it', () => {
  const same = (a: string, b: string) => expect([a, b, parseLatex(a)]).toEqual([a, b, parseLatex(b)]);

  it('to the end of the longest beginning that is an expression', () => {
    same('1,-2', '1');
    same('52_8', '52');
    same('(E)}', 'E');
    same('1,234', '1234');
  });

  it('letters multiply, a letter before a parenthesis is a function, an x between numbers is a sign', () => {
    same('ab', 'a*b');
    expect(parseLatex('x(y+1)')).toMatchObject({ kind: 'application', name: 'x' });
    same('3x5', '3*5');
    same('x^23', 'x^{23}');
    same('\\sin^{-1}2', '\\arcsin 2');
    same('\\dfrac{1}{2}\\cdot\\left(3\\right)', '\\frac12*(3)');
    same('a_1', 'a_{1}');
    expect(parseLatex('dx')).toEqual({ kind: 'symbol', name: 'dx' });
  });

  it.each([
    '(2,4)',
    '.5',
    '5.',
    '50%',
    '03',
    'x^{012}',
    '0,123',
    '0.15.',
    '2^-1',
    '\\frac{9}{{}19}',
    '\\le(3',
    'x+',
    '',
    '\\begin{pmatrix}1&2',
    '|x',
    '\\sqrt[3]',
  ])('not %s', (text) => {
    expect(() => parseLatex(text)).toThrow();
  });
});

describe('answers are compared', () => {
  it.each([
    ['\\frac{1}{2}', '0.5'],
    ['\\sqrt{12}', '2\\sqrt{3}'],
    ['\\frac{1}{\\sqrt{2}}', '\\frac{\\sqrt{2}}{2}'],
    ['(x+1)^2', 'x^2+2x+1'],
    ['\\frac{x^2-1}{x-1}', 'x+1'],
    ['\\sqrt[3]{-8}', '2(-1)^{1/3}'],
    ['\\log_{2}{8}', '3'],
    ['\\ln 6', '\\ln 2+\\ln 3'],
    ['\\sin^2 x+\\cos^2 x', '1'],
    ['5!', '120'],
    ['\\binom{5}{2}', '10'],
    ['|-3|', '3'],
    ['\\lfloor 2.7\\rfloor', '2'],
    ['Evelyn', 'nylevE'],
    ['2\\pi r', 'r\\pi*2'],
    ['\\sqrt{3+2\\sqrt{2}}', '1+\\sqrt{2}'],
    ['f(x+x)', 'f(2x)'],
    ['00.5+00', '0.5'],
    ['\\sqrt{x}\\sqrt{x}', 'x'],
    ['|3-x|', '|x-3|'],
    ['\\frac{1}{\\sqrt{x+1}+\\sqrt{x}}', '\\sqrt{x+1}-\\sqrt{x}'],
    ['10^9e^{x}\\sqrt{x}', '10^9e^{x}\\sqrt{x}'],
  ])('%s equals %s', (a, b) => {
    expect(compareLatex(a, b)).toBe('equal');
  });

  it.each([
    ['\\sqrt{x^2}', 'x'],
    ['\\sqrt{(2k+2)^2}', '2k+2'],
    ['\\sqrt{(x-y+7)^2}', 'x-y+7'],
    ['\\sqrt{(x+10^5)^2}', 'x+100000'],
    ['\\sqrt{(\\frac{1}{x}+7)^2}', '\\frac{1}{x}+7'],
    ['|f(x)+50|', 'f(x)+50'],
    ['\\sin^{-1}(\\sin x)', 'x'],
    ['\\ln((x+9)^2)', '2\\ln(x+9)'],
    ['\\ln x^2', '2\\ln x'],
    ['\\sqrt{xy}', '\\sqrt{x}\\sqrt{y}'],
    ['\\frac{1}{3}', '0.333'],
    ['\\pi', '3.14159'],
    ['e^{i\\pi}', '-1'],
    ['1', '10^{-29}+1'],
    ['f(x)', 'f(y)'],
    ['i^2', '-1'],
  ])('%s is not %s', (a, b) => {
    expect(compareLatex(a, b)).toBe('different');
  });

  it('however deep the brackets are', () => {
    expect(compareLatex(`${'f('.repeat(60)}x`, 'x')).toBe('unreadable');
    expect(compareLatex(`${'('.repeat(50_000)}x${')'.repeat(50_000)}`, 'x')).toBe('undecided');
  });

  it.each([
    ['(1,2)', '(1,2)', 'unreadable'],
    ['x<3', 'x<3', 'unreadable'],
    ['n!', 'n!', 'undecided'],
    ['\\int x dx', '\\frac{x^2}{2}', 'undecided'],
    ['2\\sum_{k=1}^{n} k', 'n', 'undecided'],
    ['\\lim_{x\\to 0} x', '0', 'undecided'],
    ['\\langle x|', 'x', 'undecided'],
    ['x|_{x=2}', '2', 'undecided'],
    ['\\frac{dx}{dt}', 't', 'undecided'],
    ['\\frac{1}{0}', '\\frac{1}{0}', 'undecided'],
    ['2^{10^{10}}', '3', 'undecided'],
    ['10^{-40}+1', '1', 'undecided'],
    // At 96i the terms of one are 1e82.
    ['\\sqrt{y}(\\sin^2 x+\\cos^2 x)', '\\sqrt{y}', 'undecided'],
    ['5y^a(\\sin^2 x+\\cos^2 x)', '5y^a', 'undecided'],
    // It would be told apart only where x is larger than can be computed with.
    ['\\sqrt{(x+10^{20})^2}', 'x+10^{20}', 'undecided'],
  ])('%s and %s are %s', (a, b, found) => {
    expect(compareLatex(a, b)).toBe(found);
  });
});
