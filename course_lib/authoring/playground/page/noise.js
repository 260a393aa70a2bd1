// The normal random numbers of PyTorch's CPU generator: the same seed gives the same noise, and so
// the same picture, as `course sample --seed`.

/** The Mersenne Twister, MT19937 (Matsumoto & Nishimura 1998), seeded by 32 bits. */
export class Generator {
  /** @param {number} seed */
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.next = 624; // the place of the next number; 624: make new ones first
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const before = this.state[i - 1];
      this.state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
    }
  }

  /** A whole number of 32 random bits. */
  random() {
    if (this.next === 624) this.twist();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return y >>> 0;
  }

  /** A uniform number in [0, 1), with the 24 bits that float32 holds. */
  uniform() {
    return (this.random() & 0xffffff) / 2 ** 24;
  }

  twist() {
    const s = this.state;
    for (let i = 0; i < 624; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
      s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }
}

/**
 * `torch.randn(count, generator=generator)`: first uniform numbers, then Box & Muller (1958) in
 * blocks of 16, number j with number j + 8; where the last block would stick out, the last 16
 * numbers are drawn again.
 * @param {number} count at least 16: PyTorch draws fewer in another way
 * @param {Generator} generator
 */
export function randn(count, generator) {
  if (count < 16) throw new RangeError(`at least 16 numbers are drawn at a time, got ${count}`);
  const x = new Float32Array(count);
  for (let i = 0; i < count; i++) x[i] = generator.uniform();
  for (let i = 0; i + 16 <= count; i += 16) boxMuller(x.subarray(i, i + 16));
  if (count % 16) {
    const last = x.subarray(count - 16);
    for (let i = 0; i < 16; i++) last[i] = generator.uniform();
    boxMuller(last);
  }
  return x;
}

/** @param {Float32Array} x 16 uniform numbers, which become normal */
function boxMuller(x) {
  for (let j = 0; j < 8; j++) {
    const radius = Math.sqrt(-2 * Math.log(1 - x[j]));
    const angle = 2 * Math.PI * x[j + 8];
    x[j] = radius * Math.cos(angle);
    x[j + 8] = radius * Math.sin(angle);
  }
}
