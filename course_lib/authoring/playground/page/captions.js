// From a caption to token ids, as course_lib/models/tokenizer.py does it. A caption can only hold
// words that the model was trained on, and byte-pair encoding spells each word on its own. So the
// manifest lists the ids of every word, and no merging is left to do here.

/**
 * @typedef {{ tokens: Record<string, number[]>, start: number, end: number, length: number }} Words
 */

const WORD = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;
const FINAL = /[.,;:!?…\s]+$/;

/**
 * The words and the punctuation of a caption, in lower case. Final punctuation is dropped, unless
 * captions in training had it.
 * @param {string} caption
 * @param {Words} vocabulary
 * @returns {string[]}
 */
export function split(caption, { tokens }) {
  const final = caption.match(FINAL)?.[0].trim() ?? "";
  const kept = (final !== "," && Object.hasOwn(tokens, final)) || !caption.replace(FINAL, "");
  const text = kept ? caption : caption.replace(FINAL, "");
  return text.normalize("NFC").toLowerCase().match(WORD) ?? [];
}

/**
 * Words that no caption in training had, each with known words that are one typing error away.
 * @param {string} caption
 * @param {Words} vocabulary
 */
export function unknownWords(caption, vocabulary) {
  const known = Object.keys(vocabulary.tokens);
  const unknown = split(caption, vocabulary).filter((w) => !Object.hasOwn(vocabulary.tokens, w));
  return [...new Set(unknown)].map((word) => ({
    word,
    near: known.filter((other) => oneError(word, other)).sort(),
  }));
}

/**
 * Whether a letter is too many, missing, wrong, or swapped with its neighbour. Between words of up
 * to three letters only a swap counts: a cat is not an "at".
 * @param {string} word
 * @param {string} other
 */
function oneError(word, other) {
  let same = 0;
  while (same < Math.min(word.length, other.length) && word[same] === other[same]) same++;
  const [a, b] = [word.slice(same), other.slice(same)]; // from the first difference on
  const swapped = a.length > 1 && b === a[1] + a[0] + a.slice(2);
  const long = Math.max(word.length, other.length) > 3;
  const oneOff = a.slice(1) === b || a === b.slice(1) || a.slice(1) === b.slice(1);
  return swapped || (long && oneOff);
}

/**
 * A caption's token ids, padded to the length of the context, and for each word the places of its
 * tokens. RangeError for a caption that is too long.
 * @param {string} caption
 * @param {Words} vocabulary
 */
export function tokenize(caption, vocabulary) {
  const { tokens, start, end, length } = vocabulary;
  const ids = [start];
  const places = split(caption, vocabulary).map((word) => {
    const first = ids.length;
    ids.push(...tokens[word]);
    return { word, first, last: ids.length - 1 };
  });
  ids.push(end);
  if (ids.length > length) {
    const most = `at most ${length} with its start and end`;
    throw new RangeError(`The caption has ${ids.length} tokens; the model reads ${most}.`);
  }
  return { ids: [...ids, ...Array(length - ids.length).fill(end)], places };
}

/**
 * A pattern such as "a {size} {colour} {shape}", cut into plain text and the kinds of its gaps.
 * @param {string} pattern
 * @returns {({ text: string } | { kind: string })[]}
 */
export function gaps(pattern) {
  const pieces = pattern.split(/\{(\w+)\}/);
  return pieces.map((piece, i) => (i % 2 ? { kind: piece } : { text: piece }));
}

/** The sentence that these pieces make: an empty choice leaves no gap, and "a orange" no "an". */
export function sentence(/** @type {string[]} */ pieces) {
  const text = pieces.join("").replace(/\s+/g, " ").trim();
  return text.replace(/\b(an?) (?=(\w))/g, (_, article, letter) =>
    "aeiou".includes(letter) ? "an " : "a ",
  );
}
