// From noise to a picture: course_lib/diffusion/samplers.py once more, for the straight schedule.
// Names, equations and their order are the same; `sum([a, x], [b, y])` is a * x + b * y.

const { exp, max, sqrt, log } = Math;

/**
 * A point of the schedule: all that a step needs to know about a time.
 * @typedef {{ t: number, alpha: number, sigma: number, logSnr: number, timestep: number }} Point
 * @typedef {[Float32Array, Float32Array]} Pair (x0, eps)
 * @typedef {(x: Float32Array, t: Point) => Promise<Pair>} Predict one call of the network
 * @typedef {() => Float32Array} Noise draws a fresh standard normal
 * @typedef {{ x0: Float32Array, logSnr: number }[]} History what a multistep sampler keeps
 * @typedef {(predict: Predict, x: Float32Array, t: Point, s: Point, history: History,
 *   noise: Noise) => Promise<Float32Array>} Sampler takes x from t to the cleaner point s
 */

/**
 * a * x + b * y + ..., number by number.
 * @param {...[number, Float32Array]} terms
 */
export function sum(...terms) {
  const total = new Float32Array(terms[0][1].length);
  for (let i = 0; i < total.length; i++) {
    let value = 0;
    for (const [a, x] of terms) value += a * x[i];
    total[i] = value;
  }
  return total;
}

// The schedule and the prediction

/** The straight path, with more time at the noisy end for shift > 1 (Esser et al. 2024, eq. 23). */
export function straight(shift = 1) {
  return (/** @type {number} */ t) => pointOf(t, (shift * t) / (1 + (shift - 1) * t));
}

/** @returns {Point} */
function pointOf(/** @type {number} */ t, /** @type {number} */ sigma) {
  const alpha = 1 - sigma;
  return { t, alpha, sigma, logSnr: 2 * (log(alpha) - log(sigma)), timestep: 1000 * sigma };
}

/** sigma / alpha, the noise level of Karras et al. 2022: Infinity in pure noise. */
const edmSigma = (/** @type {Point} */ p) => p.sigma / p.alpha;

/** Where sigma / alpha is that many times as large. */
function noisier(/** @type {Point} */ p, /** @type {number} */ factor) {
  const level = factor * edmSigma(p);
  return pointOf(p.t, level / (1 + level));
}

/** What networks predict, as coefficients: prediction = a * x0 + b * eps.
 * @type {Record<string, (alpha: number, sigma: number) => [number, number]>} */
export const PREDICTIONS = {
  eps: () => [0, 1],
  x0: () => [1, 0],
  v: (alpha, sigma) => [-sigma, alpha],
  flow: () => [-1, 1],
};

/**
 * (x0, eps) from `xt = alpha * x0 + sigma * eps` and `prediction = a * x0 + b * eps`.
 * @param {string} kind
 * @param {Float32Array} prediction
 * @param {Float32Array} xt
 * @param {Point} t
 * @returns {Pair}
 */
export function solve(kind, prediction, xt, { alpha, sigma }) {
  const [a, b] = PREDICTIONS[kind](alpha, sigma);
  const det = alpha * b - sigma * a;
  return [
    sum([b / det, xt], [-sigma / det, prediction]),
    sum([alpha / det, prediction], [-a / det, xt]),
  ];
}

// One step

/** The standard deviation of a step's fresh noise (Song et al. 2021, eq. 16). */
function stepStd(/** @type {Point} */ t, /** @type {Point} */ s, /** @type {number} */ eta) {
  const kept = (t.alpha / s.alpha) * s.sigma;
  return ((eta * s.sigma) / t.sigma) * sqrt(max(t.sigma ** 2 - kept ** 2, 0));
}

/**
 * One step from t to the cleaner s (Song et al. 2021, eq. 12): eta = 1 is DDPM's posterior, eta = 0
 * is DDIM, which on the straight schedule is Euler's step of flow matching.
 * @param {Float32Array} x0
 * @param {Float32Array} eps
 * @param {Point} t
 * @param {Point} s
 * @param {number} eta
 * @param {Float32Array} noise
 */
export function step(x0, eps, t, s, eta = 0, noise = x0) {
  const std = stepStd(t, s, eta);
  return sum([s.alpha, x0], [sqrt(max(s.sigma ** 2 - std ** 2, 0)), eps], [std, noise]);
}

// The samplers

/** DDIM (Song et al. 2021, eq. 12). @type {Sampler} */
async function ddim(predict, x, t, s) {
  const [x0, eps] = await predict(x, t);
  return step(x0, eps, t, s);
}

/** DDPM's ancestral sampler (Ho et al. 2020): DDIM with eta = 1. @type {Sampler} */
async function ancestral(predict, x, t, s, history, noise) {
  const [x0, eps] = await predict(x, t);
  return s.sigma > 0 ? step(x0, eps, t, s, 1, noise()) : step(x0, eps, t, s);
}

/** Euler's method to a lower noise level, then fresh noise up to that of s. @type {Sampler} */
async function eulerAncestral(predict, x, t, s, history, noise) {
  const [x0, eps] = await predict(x, t);
  if (s.sigma === 0) return x0;
  const down = edmSigma(s) * (edmSigma(s) / edmSigma(t));
  const up = sqrt(edmSigma(s) ** 2 - down ** 2);
  return sum([s.alpha, x0], [s.alpha * down, eps], [s.alpha * up, noise()]);
}

/** Heun's second-order step (Karras et al. 2022, algorithm 1): two calls. @type {Sampler} */
async function heun(predict, x, t, s) {
  const [x0, eps] = await predict(x, t);
  const xs = step(x0, eps, t, s);
  if (s.sigma === 0) return xs;
  const [x0s, epsS] = await predict(xs, s);
  const slope = sum([1 / 2, eps], [-1 / 2, x0], [1 / 2, epsS], [-1 / 2, x0s]);
  return step(...solve("flow", slope, x, t), t, s);
}

/** EDM's stochastic sampler (Karras et al. 2022, algorithm 2). @type {Sampler} */
async function edm(predict, x, t, s, history, noise) {
  const churn = t.t < 1;
  const hat = churn ? noisier(t, sqrt(2)) : t; // the point of the raised noise level
  if (churn) {
    const kept = hat.alpha / t.alpha;
    x = sum([kept, x], [sqrt(hat.sigma ** 2 - (kept * t.sigma) ** 2), noise()]);
  }
  const [x0, eps] = await predict(x, hat);
  const xs = step(x0, eps, hat, s);
  if (s.sigma === 0 || hat.alpha === 0) return xs;
  const [, epsS] = await predict(xs, s);
  const half = (s.alpha * (edmSigma(s) - edmSigma(hat))) / 2;
  return sum([1, xs], [half, epsS], [-half, eps]);
}

/** DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, one call. @type {Sampler} */
async function dpmpp2m(predict, x, t, s, history) {
  const x0 = extrapolated((await predict(x, t))[0], t, s, history);
  const h = (s.logSnr - t.logSnr) / 2;
  return sum([s.sigma / t.sigma, x], [s.alpha * (1 - exp(-h)), x0]);
}

/** The same with fresh noise (Lu et al. 2022, appendix B). @type {Sampler} */
async function dpmpp2mSde(predict, x, t, s, history, noise) {
  const x0 = extrapolated((await predict(x, t))[0], t, s, history);
  if (s.sigma === 0) return x0;
  const h = (s.logSnr - t.logSnr) / 2;
  const mean = sum([(s.sigma / t.sigma) * exp(-h), x], [s.alpha * (1 - exp(-2 * h)), x0]);
  return sum([1, mean], [s.sigma * sqrt(1 - exp(-2 * h)), noise()]);
}

/**
 * x0 half-way from t to s, on the line in the log-SNR through this and the last prediction.
 * @param {Float32Array} x0
 * @param {Point} t
 * @param {Point} s
 * @param {History} history
 */
function extrapolated(x0, t, s, history) {
  history.push({ x0, logSnr: t.logSnr });
  if (history.length === 1 || s.sigma === 0) return x0;
  const [before] = history.splice(0, 1);
  const slope = (s.logSnr - t.logSnr) / (t.logSnr - before.logSnr) / 2;
  return sum([1, x0], [slope, x0], [-slope, before.x0]);
}

/** @type {Record<string, Sampler>} */
export const SAMPLERS = {
  ancestral,
  ddim,
  euler_ancestral: eulerAncestral,
  heun,
  edm,
  "dpm++2m": dpmpp2m,
  "dpm++2m_sde": dpmpp2mSde,
};

// The times, and the trajectory

/** The steps + 1 times of a trajectory, from `start` to 0 (Lin et al. 2024, "trailing"). */
export function timeGrid(/** @type {number} */ steps, start = 1) {
  return Array.from({ length: steps + 1 }, (_, i) => start * (1 - i / steps));
}

/**
 * Yields x_t from the first, noisy x to the finished x0: one more than there are steps.
 * @param {Sampler} sampler
 * @param {Predict} predict
 * @param {Float32Array} x
 * @param {Point[]} points
 * @param {Noise} noise
 */
export async function* trajectory(sampler, predict, x, points, noise) {
  /** @type {History} */
  const history = [];
  yield x;
  for (let i = 1; i < points.length; i++) {
    x = await sampler(predict, x, points[i - 1], points[i], history, noise);
    yield x;
  }
}
