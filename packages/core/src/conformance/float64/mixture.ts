/** A mixture of experts by its definition in float64, with its gradients: token by token, expert by expert. */
import { addTo, dot, type Values } from './packed.js';

/** Row by row: x [N,C], router [E,C], input [E,2F,C], output [E,C,F]. */
export interface Mixture64 {
  x: Values;
  router: Values;
  input: Values;
  output: Values;
}

export interface MixtureSizes {
  width: number;
  units: number;
  experts: number;
  active: number;
  balanceWeight: number;
  zWeight: number;
  /** [E], of which the balance loss takes the shares in its gradient; default: this mixture's. */
  balanceCounts?: readonly number[];
}

/** What is differentiated is Σ y·dy + balanceWeight·balance + zWeight·z, with the experts' shares as constants. */
export function mixture64({ x, router, input, output }: Mixture64, sizes: MixtureSizes, dy: Values) {
  const { width: C, units: F, experts: E, active: k } = sizes;
  const N = x.length / C;
  const y = new Float64Array(N * C);
  const gradients = {
    dx: new Float64Array(x.length),
    dRouter: new Float64Array(router.length),
    dInput: new Float64Array(input.length),
    dOutput: new Float64Array(output.length),
  };
  const terms = { dx: gradients.dx, squares: 0 };
  const logits = logits64(x, router, C);
  const choices = Float64Array.from({ length: N * k });
  const dLogits = new Float64Array(N * E);
  for (let t = 0; t < N; t++) {
    const row = logits.subarray(t * E, (t + 1) * E);
    const chosen = chosen64(row, k);
    choices.set(chosen, t * k);
    const powers = chosen.map((e) => Math.exp(row[e]! - row[chosen[0]!]!));
    const whole = powers.reduce((a, b) => a + b);
    const gates = powers.map((power) => power / whole);
    const dGates = chosen.map((e, j) => {
      const from = { at: t * C, gate: gates[j]!, input: e * 2 * F * C, output: e * C * F };
      return expert64({ x, input, output }, { C, F }, from, dy, y, gradients, terms);
    });
    const average = dGates.reduce((sum, dGate, j) => sum + gates[j]! * dGate, 0);
    chosen.forEach((e, j) => {
      dLogits[t * E + e] = gates[j]! * (dGates[j]! - average);
    });
  }
  const routing = routing64(logits, choices, sizes, dLogits);
  for (let t = 0; t < N; t++) {
    for (let e = 0; e < E; e++) {
      addTo(gradients.dRouter, e * C, dLogits[t * E + e]!, x, t * C, C);
      addTerm(terms, t * C, dLogits[t * E + e]!, router, e * C, C);
    }
  }
  return { y, choices, ...routing, ...gradients, dxTermsNorm: Math.sqrt(terms.squares) };
}

/** What dx is the sum of, and the sum of the squares of all that was added: terms that are rounded each may cancel. */
interface Terms {
  dx: Float64Array;
  squares: number;
}

function addTerm(terms: Terms, at: number, factor: number, weights: Values, from: number, C: number): void {
  addTo(terms.dx, at, factor, weights, from, C);
  terms.squares += factor ** 2 * dot(weights, from, weights, from, C);
}

/** x·routerᵀ, [N,E]. */
export function logits64(x: Values, router: Values, width: number): Float64Array {
  const [N, E] = [x.length / width, router.length / width];
  return Float64Array.from({ length: N * E }, (_, i) =>
    dot(x, Math.floor(i / E) * width, router, (i % E) * width, width),
  );
}

/** The k largest, the first of equal ones first. */
export function chosen64(logits: Float64Array, active: number): number[] {
  const order = Array.from(logits, (_, e) => e).sort((a, b) => logits[b]! - logits[a]! || a - b);
  return order.slice(0, active);
}

/** Adds what one expert gives for one token; returns the gradient of the token's gate. */
function expert64(
  { x, input, output }: Omit<Mixture64, 'router'>,
  { C, F }: { C: number; F: number },
  from: { at: number; gate: number; input: number; output: number },
  dy: Values,
  y: Float64Array,
  { dInput, dOutput }: { dInput: Float64Array; dOutput: Float64Array },
  terms: Terms,
): number {
  let dGate = 0;
  for (let f = 0; f < F; f++) {
    const [gateRow, upRow] = [from.input + f * C, from.input + (F + f) * C];
    const open = dot(x, from.at, input, gateRow, C);
    const raised = dot(x, from.at, input, upRow, C);
    const sigma = 1 / (1 + Math.exp(-open));
    const hidden = open * sigma * raised;
    let back = 0;
    for (let c = 0; c < C; c++) {
      const weight = output[from.output + c * F + f]!;
      y[from.at + c]! += from.gate * weight * hidden;
      back += weight * dy[from.at + c]!;
      dOutput[from.output + c * F + f]! += from.gate * hidden * dy[from.at + c]!;
    }
    dGate += back * hidden;
    const dOpen = from.gate * back * raised * (sigma + open * sigma * (1 - sigma));
    const dRaised = from.gate * back * open * sigma;
    addTo(dInput, gateRow, dOpen, x, from.at, C);
    addTo(dInput, upRow, dRaised, x, from.at, C);
    addTerm(terms, from.at, dOpen, input, gateRow, C);
    addTerm(terms, from.at, dRaised, input, upRow, C);
  }
  return dGate;
}

/** [balance loss, z loss, counts …], with the experts' mean probabilities [E]; the gradients are added to `dLogits`. */
function routing64(logits: Float64Array, choices: Values, sizes: MixtureSizes, dLogits: Float64Array) {
  const { experts: E, balanceWeight, zWeight, balanceCounts } = sizes;
  const N = logits.length / E;
  const routing = new Float64Array(2 + E);
  for (const e of choices) routing[2 + e]! += 1;
  const means = new Float64Array(E);
  const share = routing.slice(2).map((count) => count / choices.length);
  const all = balanceCounts?.reduce((a, b) => a + b) ?? 1;
  const given = balanceCounts ? Float64Array.from(balanceCounts, (count) => count / all) : share;
  for (let t = 0; t < N; t++) {
    const row = logits.subarray(t * E, (t + 1) * E);
    const most = Math.max(...row);
    const normaliser = most + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
    const probabilities = row.map((logit) => Math.exp(logit - normaliser));
    const average = dot(probabilities, 0, given, 0, E);
    routing[0]! += (E * dot(probabilities, 0, share, 0, E)) / N;
    routing[1]! += normaliser ** 2 / N;
    for (let e = 0; e < E; e++) {
      means[e]! += probabilities[e]! / N;
      const ofBalance = ((balanceWeight * E) / N) * (given[e]! - average);
      dLogits[t * E + e]! += probabilities[e]! * (ofBalance + ((zWeight * 2) / N) * normaliser);
    }
  }
  return { routing, probabilities: means };
}
