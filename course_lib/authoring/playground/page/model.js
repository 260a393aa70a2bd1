// The text-to-image pipeline: course_lib/pipelines/text_to_image.py and edit.py once more, with
// networks that ONNX Runtime computes. Pictures and latents are Float32Arrays, channels first.

import { SAMPLERS, solve, straight, sum, timeGrid, trajectory } from "./diffusion.js";
import { tokenize } from "./captions.js";
import { Generator, randn } from "./noise.js";

/**
 * What manifest.json says of a model.
 * @typedef {import("./captions.js").Words & {
 *   name: string, title: string, size: number, latent: [number, number, number],
 *   prediction: string, shift: number, scale: number, sampler: string,
 *   files: Record<Part, { path: string, bytes: number }>,
 *   patterns: Record<string, string>, vocabulary: Record<string, string[]>, examples: string[],
 *   palette: Record<string, string>,
 * }} Facts
 * @typedef {"text_encoder" | "unet" | "vae_decoder" | "vae_encoder"} Part
 *
 * What is to be drawn. A caption, where it starts, and how it is drawn.
 * @typedef {{
 *   caption: string, negative?: string, seed?: number, scale?: number, steps?: number,
 *   sampler?: string, image?: Float32Array | null, strength?: number, noise?: Float32Array,
 * }} Request
 * @typedef {{ step: number, steps: number, z: Float32Array, attention: Float32Array | null }} State
 */

export class TextToImage {
  /**
   * @param {Facts} facts
   * @param {any} ort the module of ONNX Runtime
   * @param {(part: Part) => Promise<ArrayBuffer>} read gives a part's file
   */
  constructor(facts, ort, read) {
    this.facts = facts;
    this.ort = ort;
    this.read = read;
    /** @type {Partial<Record<Part, Promise<any>>>} */
    this.sessions = {};
  }

  /** Opens what every picture needs; the encoder opens with the first picture that needs it. */
  async load() {
    /** @type {Part[]} */
    const parts = ["text_encoder", "unet", "vae_decoder"];
    await Promise.all(parts.map((part) => this.open(part)));
  }

  open(/** @type {Part} */ part) {
    this.sessions[part] ??= this.read(part).then((file) =>
      this.ort.InferenceSession.create(file, { executionProviders: ["wasm"] }),
    );
    return this.sessions[part];
  }

  /**
   * One call of a network: its outputs by name.
   * @param {Part} part
   * @param {Record<string, any>} inputs
   * @returns {Promise<Record<string, Float32Array>>}
   */
  async run(part, inputs) {
    const outputs = await (await this.open(part)).run(inputs);
    return Object.fromEntries(Object.entries(outputs).map(([name, out]) => [name, out.data]));
  }

  tensor(/** @type {Float32Array} */ data, /** @type {number[]} */ shape) {
    return new this.ort.Tensor("float32", data, shape);
  }

  /** What the cross-attention reads, a row of (L, D) for each caption. */
  async context(/** @type {string[]} */ captions) {
    const ids = captions.flatMap((caption) => tokenize(caption, this.facts).ids);
    const shape = [captions.length, this.facts.length];
    const input = new this.ort.Tensor("int64", BigInt64Array.from(ids, BigInt), shape);
    return (await this.run("text_encoder", { ids: input })).context;
  }

  /** A picture (3, size, size), about [-1, 1], of a latent. */
  async decode(/** @type {Float32Array} */ z) {
    const input = this.tensor(z, [1, ...this.facts.latent]);
    return (await this.run("vae_decoder", { z: input })).images;
  }

  /** The latent of a picture (3, size, size) in [-1, 1]. */
  async encode(/** @type {Float32Array} */ image) {
    const input = this.tensor(image, [1, 3, this.facts.size, this.facts.size]);
    return (await this.run("vae_encoder", { images: input })).z;
  }

  /**
   * The U-Net with classifier-free guidance (Ho & Salimans 2022): unconditional + scale *
   * (conditional - unconditional), by one call on a batch of two. scale = 1 is the U-Net itself.
   * @param {Float32Array} context of the caption, and of the negative one
   * @param {number} scale
   * @param {(attention: Float32Array) => void} look is given the caption's attention
   * @returns {import("./diffusion.js").Predict}
   */
  guided(context, scale, look) {
    const { latent, length, prediction } = this.facts;
    const batch = scale === 1 ? 1 : 2;
    const contexts = context.subarray(0, (context.length / 2) * batch);
    return async (x, t) => {
      const output = await this.run("unet", {
        x: this.tensor(repeat(x, batch), [batch, ...latent]),
        timestep: this.tensor(new Float32Array(batch).fill(t.timestep), [batch]),
        context: this.tensor(contexts, [batch, length, contexts.length / batch / length]),
      });
      look(output.attention.subarray(0, output.attention.length / batch));
      const conditional = output.prediction.subarray(0, x.length);
      const unconditional = output.prediction.subarray(x.length);
      const guided =
        batch === 1 ? conditional : sum([scale, conditional], [1 - scale, unconditional]);
      return solve(prediction, guided, x, t);
    };
  }

  /**
   * Yields the state after each step, from the noise (step 0) to the finished latent.
   *
   * With an image it starts from that one, noised as far as t = strength (Meng et al. 2022, SDEdit).
   * @param {Request} request
   * @returns {AsyncGenerator<State>}
   */
  async *draw(request) {
    const { seed = 0, steps = 20, strength = 0.6, image, negative = "" } = request;
    const { scale = this.facts.scale, sampler = this.facts.sampler } = request;
    const generator = new Generator(seed);
    const noise = () => randn(this.facts.latent.reduce((a, b) => a * b), generator);
    const context = await this.context([request.caption, negative]);
    /** @type {Float32Array[]} */
    const looks = [];
    const predict = this.guided(context, scale, (attention) => looks.push(attention));

    const start = image ? strength : 1;
    const left = image ? Math.max(1, Math.ceil(Number((strength * steps).toFixed(9)))) : steps;
    const points = timeGrid(left, start).map(straight(this.facts.shift));
    let x = request.noise ?? noise();
    if (image) {
      const [{ alpha, sigma }] = points;
      x = sum([alpha, await this.encode(image)], [sigma, x]);
    }
    let step = 0;
    for await (const z of trajectory(SAMPLERS[sampler], predict, x, points, noise)) {
      yield { step: step++, steps: left, z, attention: mean(looks) };
    }
  }
}

function repeat(/** @type {Float32Array} */ x, /** @type {number} */ times) {
  const all = new Float32Array(times * x.length);
  for (let i = 0; i < times; i++) all.set(x, i * x.length);
  return all;
}

/** The mean over the calls so far: where each token was looked at, (L, h, w). */
function mean(/** @type {Float32Array[]} */ looks) {
  const one = 1 / looks.length;
  return looks.length
    ? sum(...looks.map((look) => /** @type {[number, Float32Array]} */ ([one, look])))
    : null;
}
