// Keeps the page for the next visit, with or without a network. Registered as sw.js?v=VERSION, it
// installs again whenever the manifest names another version.

const worker = /** @type {any} */ (self);
const CACHE = "playground";

/** Of every file of the page, as the manifest lists them: its address. */
async function files() {
  const manifest = await (await fetch("manifest.json", { cache: "no-cache" })).json();
  return ["./", "manifest.json", ...manifest.files].map((file) => new URL(file, worker.location).href);
}

/** A model's name holds its checksum, the runtime's its version: such a file never changes. */
const isFinal = (/** @type {string} */ url) => /\.onnx$|\/runtime-/.test(url);

async function install() {
  const cache = await caches.open(CACHE);
  const kept = (await cache.keys()).map((request) => request.url);
  await cache.addAll((await files()).filter((url) => !isFinal(url) || !kept.includes(url)));
  await worker.skipWaiting();
}

async function activate() {
  const cache = await caches.open(CACHE);
  const wanted = await files();
  const old = (await cache.keys()).filter((request) => !wanted.includes(request.url));
  await Promise.all(old.map((request) => cache.delete(request)));
  await worker.clients.claim();
}

/** What never changes comes from the cache; everything else from the network while there is one. */
async function answer(/** @type {Request} */ request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept && isFinal(request.url)) return kept;
  try {
    return await fetch(request);
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}

worker.addEventListener("install", (/** @type {any} */ event) => event.waitUntil(install()));
worker.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(activate()));
worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(worker.location.origin)) {
    event.respondWith(answer(event.request));
  }
});
