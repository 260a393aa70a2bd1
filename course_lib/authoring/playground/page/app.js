// The page: reads the form, draws, and shows what happens. It knows of the models only what
// manifest.json says.

import { gaps, sentence, tokenize, unknownWords } from "./captions.js";
import { TextToImage } from "./model.js";
import { Pad, paint, paintHeat } from "./pictures.js";

/**
 * @typedef {import("./model.js").Facts} Facts
 * @typedef {import("./model.js").State & { picture: Float32Array }} Moment
 * @typedef {HTMLInputElement | HTMLSelectElement} Field
 */

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const form = /** @type {HTMLFormElement} */ ($("request"));
const field = (/** @type {string} */ name) => /** @type {Field} */ (form.elements.namedItem(name));
const number = (/** @type {string} */ name) => Number(field(name).value);
const startBox = /** @type {HTMLInputElement} */ (field("start")); // "Start from this drawing"
const pad = new Pad($("pad"));

/** @type {TextToImage} */
let model;
/** @type {Moment[]} what the present picture went through */
let path = [];
/** @type {Promise<void>} the drawing that runs, or ran last */
let running = Promise.resolve();
let latest = 0; // the number of that drawing: an older one stops

// A small WebAssembly module with one SIMD instruction
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0];
SIMD.push(65, 0, 253, 15, 253, 98, 11);

async function start() {
  if (!globalThis.WebAssembly?.validate(new Uint8Array(SIMD))) {
    return say("This browser can't draw: it lacks WebAssembly SIMD. Any browser from 2023 has it.");
  }
  const manifest = await (await fetch("manifest.json")).json();
  const ort = await import(`./${manifest.runtime}ort.wasm.min.mjs`);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL(manifest.runtime, import.meta.url).href;

  const choice = field("model");
  for (const facts of manifest.models) choice.append(new Option(facts.title, facts.name));
  $("models").hidden = manifest.models.length < 2;
  const chosen = () => manifest.models.find((/** @type {Facts} */ m) => m.name === choice.value);
  choice.addEventListener("change", () => open(chosen(), ort));
  await open(chosen(), ort);
  navigator.serviceWorker?.register(`sw.js?v=${manifest.version}`); // keeps the page for next time
}

/** Opens a model and offers its captions. */
async function open(/** @type {Facts} */ facts, /** @type {any} */ ort) {
  $("draw").disabled = true;
  latest++;
  await running;
  offer(facts);
  let [read, all] = [0, 0];
  for (const part of ["text_encoder", "unet", "vae_decoder"]) {
    all += facts.files[/** @type {keyof Facts["files"]} */ (part)].bytes;
  }
  model = new TextToImage(facts, ort, async (part) => {
    const response = await fetch(facts.files[part].path);
    if (!response.ok) throw new Error(`${facts.files[part].path} could not be loaded`);
    const file = await response.arrayBuffer();
    read += file.byteLength;
    if (read <= all) say(`Loading the model: ${megabytes(read)} of ${megabytes(all)} MB`);
    return file;
  });
  await model.load();
  say("Ready.");
  $("draw").disabled = false;
}

const megabytes = (/** @type {number} */ bytes) => (bytes / 1e6).toFixed(1);

function say(/** @type {string} */ text) {
  $("status").textContent = text;
}

// What the page offers for a model

function offer(/** @type {Facts} */ facts) {
  field("scale").value = String(facts.scale);
  field("sampler").value = facts.sampler;
  field("caption").value = facts.examples[0] ?? "";
  $("examples").replaceChildren(
    ...facts.examples.map((caption) =>
      button(caption, () => {
        field("caption").value = caption;
        form.requestSubmit();
      }),
    ),
  );
  $("menus").hidden = !Object.keys(facts.patterns).length;
  $("pattern").replaceChildren(...Object.keys(facts.patterns).map((name) => new Option(name)));
  $("pattern").onchange = () => offerWords(facts);
  offerWords(facts);
  offerColours(facts.palette);
  $("picture").width = $("picture").height = facts.size;
  showOutputs();
}

/** The chosen pattern as a sentence with menus in it. */
function offerWords(/** @type {Facts} */ facts) {
  const pieces = gaps(facts.patterns[$("pattern").value] ?? "").map((piece) =>
    "text" in piece ? piece.text : menu(piece.kind, facts.vocabulary[piece.kind]),
  );
  $("sentence").replaceChildren(...pieces);
  $("sentence").onchange = () => {
    field("caption").value = sentence(
      pieces.map((piece) => (typeof piece === "string" ? piece : piece.value)),
    );
    complain();
  };
}

function menu(/** @type {string} */ kind, /** @type {string[]} */ words) {
  const select = document.createElement("select");
  select.setAttribute("aria-label", kind);
  select.append(...words.map((word) => new Option(word || "–", word)));
  return select;
}

function offerColours(/** @type {Record<string, string>} */ palette) {
  const labels = Object.entries(palette).map(([name, colour], i) => {
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "colour" });
    radio.checked = i === 0;
    radio.addEventListener("change", () => (pad.colour = colour));
    const swatch = document.createElement("i");
    swatch.style.background = colour;
    const label = document.createElement("label");
    label.append(radio, swatch, name);
    return label;
  });
  $("palette").replaceChildren($("palette").firstElementChild, ...labels);
  pad.colour = "#f5f5f5";
  pad.fill();
  pad.colour = Object.values(palette)[0] ?? "black";
  startBox.checked = false;
}

function button(/** @type {string} */ text, /** @type {() => void} */ press) {
  const made = Object.assign(document.createElement("button"), { type: "button" });
  made.append(text);
  made.addEventListener("click", press);
  return made;
}

/** The value beside each slider. */
function showOutputs() {
  for (const output of form.querySelectorAll("label > output")) {
    const input = /** @type {HTMLInputElement} */ (output.parentElement?.querySelector("input"));
    output.textContent = input.value;
  }
  pad.width = Number($("brush").value);
}

/** Says what is wrong with the captions; returns whether anything is. */
function complain() {
  const captions = [field("caption").value, field("negative").value];
  const unknown = captions.flatMap((caption) => unknownWords(caption, model.facts));
  const named = unknown.map(({ word, near }) =>
    near.length ? `“${word}” (did you mean “${near[0]}”?)` : `“${word}”`,
  );
  const words = Object.keys(model.facts.tokens).filter((word) => word !== ",");
  let text = "";
  if (named.length) {
    const known = words.length < 100 ? `: ${words.join(", ")}` : ` ${words.length} other words`;
    text = `The model has never read ${named.join(", ")}. It knows${known}.`;
  } else {
    try {
      captions.forEach((caption) => tokenize(caption, model.facts));
    } catch (error) {
      text = /** @type {Error} */ (error).message;
    }
  }
  $("complaint").textContent = text;
  return text !== "";
}

// Drawing

/** What the form asks for. */
function request() {
  return {
    caption: field("caption").value.trim(),
    negative: field("negative").value.trim(),
    seed: number("seed"),
    scale: number("scale"),
    steps: number("steps"),
    sampler: field("sampler").value,
    image: startBox.checked ? pad.image(model.facts.size) : null,
    strength: number("strength"),
  };
}

async function draw() {
  if (complain()) return;
  const mine = ++latest;
  await running;
  if (mine !== latest) return; // another one was asked for meanwhile
  const asked = request();
  const begun = performance.now();
  path = [];
  for await (const state of model.draw(asked)) {
    path.push({ ...state, picture: await model.decode(state.z) });
    $("moment").max = state.steps;
    show(state.step);
    say(`Step ${state.step} of ${state.steps}`);
    await pause();
    if (mine !== latest) return;
  }
  say(`Drawn in ${((performance.now() - begun) / 1000).toFixed(1)} s.`);
  $("moment").disabled = $("copy").disabled = false;
  $("picture").setAttribute("aria-label", `The model's picture of: ${asked.caption || "nothing"}`);
  offerAttention(asked.caption);
  showCommand(asked);
}

/** Lets the browser show what changed. */
const pause = () => new Promise((done) => setTimeout(done));

/** Shows the picture as it was after that step. */
function show(/** @type {number} */ step) {
  $("moment").value = step;
  $("moment").setAttribute("aria-valuetext", `after step ${step} of ${$("moment").max}`);
  paint($("picture"), path[step].picture);
}

/** A button for each word, which shows where the model looked at it. */
function offerAttention(/** @type {string} */ caption) {
  const attention = path.at(-1)?.attention;
  look(null);
  $("words").replaceChildren();
  if (!attention) return;
  const { length } = model.facts;
  const one = attention.length / length;
  for (const { word, first, last } of tokenize(caption, model.facts).places) {
    const heat = new Float32Array(one);
    for (let i = first * one; i < (last + 1) * one; i++) heat[i % one] += attention[i];
    const chip = button(word, () => {
      const pressed = chip.getAttribute("aria-pressed") === "true";
      for (const other of $("words").children) other.setAttribute("aria-pressed", "false");
      chip.setAttribute("aria-pressed", String(!pressed));
      look(pressed ? null : heat, word);
    });
    chip.setAttribute("aria-pressed", "false");
    $("words").append(chip);
  }
}

function look(/** @type {Float32Array | null} */ heat, word = "") {
  $("heat").hidden = !heat;
  $("looking").hidden = !path.length;
  $("looking").textContent = heat
    ? `Yellow is where the model looked most at “${word}”, blue where it looked least.`
    : "Press a word to see where the model looked at it.";
  if (heat) paintHeat($("heat"), heat);
}

/** The command that draws the same picture, where there is one. */
function showCommand(/** @type {import("./model.js").Request} */ asked) {
  const same = !asked.image && !asked.negative;
  $("command").hidden = !same;
  $("command").querySelector("code").textContent =
    `course sample "${asked.caption}" --model ${model.facts.name} --seed ${asked.seed} ` +
    `--scale ${asked.scale} --steps ${asked.steps} --sampler ${asked.sampler}`;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  running = draw().catch(report);
});
form.addEventListener("input", showOutputs);
field("caption").addEventListener("input", complain);
field("negative").addEventListener("input", complain);
$("moment").addEventListener("input", () => show(Number($("moment").value)));
$("dice").addEventListener("click", () => {
  field("seed").value = String(Math.floor(Math.random() * 10000));
  form.requestSubmit();
});
$("fill").addEventListener("click", () => pad.fill());
$("copy").addEventListener("click", () => pad.copy($("picture")));
pad.onchange = () => (startBox.checked = true);

function report(/** @type {Error} */ error) {
  say(`That went wrong: ${error.message}`);
  console.error(error);
}

start().catch(report);
