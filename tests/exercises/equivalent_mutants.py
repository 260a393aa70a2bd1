"""Mutants of the exercises' references that are right, too, and why: {exercise: {reason: names}}.

The names are those that `python -m course_lib.authoring.mutants` prints.
"""

SQUARED = "only its square is used, or its square root's square, so its sign doesn't matter"
SHIFT = "a softmax doesn't change when one number is added to all scores of a row"
INFINITE = "any number this far below the scores gets the weight 0"
SAME_SIZE = "only its size is used, and both have the same"
UNIT = "only the direction counts: the vectors are normalised afterwards"
BOOLEAN = "only zero and non-zero differ"

EQUIVALENT: dict[str, dict[str, list[str]]] = {
    "0.1": {"dividing bytes by a float makes floats": ["picture.float() => picture"]},
    "1.2": {"there are as many noises as betas": ["True => False"]},
    "1.5": {
        SQUARED: [
            *(f"sigma_t => -sigma_t{n}" for n in ("", " (2)", " (3)", " (4)", " (5)")),
            *(f"sigma_s => -sigma_s{n}" for n in ("", " (2)", " (3)", " (4)")),
            "c => -c",
            "c * sigma_s => -(c * sigma_s)",
        ]
    },
    "2.2": {
        SQUARED: [
            "network(xt, t - 1) - (alpha * eps - sigma * x0) => "
            "alpha * eps - sigma * x0 - network(xt, t - 1)",
            "network(xt, t - 1) - (alpha * eps - sigma * x0) => "
            "-(network(xt, t - 1) - (alpha * eps - sigma * x0))",
        ]
    },
    "2.4": {
        SQUARED: [
            "alpha / sigma => -(alpha / sigma)",
            "alpha => -alpha",
            "sigma => -sigma",
            "prediction - eps => eps - prediction",
            "prediction - eps => -(prediction - eps)",
        ]
    },
    "3.2": {
        SQUARED: [
            "std => -std",
            "alpha_t => -alpha_t (2)",
            "alpha_s => -alpha_s",
            "sigma_s => -sigma_s (2)",
            "sigma_t => -sigma_t (4)",
            "alpha_t / alpha_s * sigma_s => -(alpha_t / alpha_s * sigma_s)",
            "alpha_t / alpha_s => -(alpha_t / alpha_s)",
            "alpha_t => -alpha_t (3)",
            "alpha_s => -alpha_s (3)",
            "sigma_s => -sigma_s (4)",
        ],
    },
    "3.3": {
        "at the clean end alpha-bar is 1": [
            "torch.tensor(1.0) => torch.tensor(1.0) ** 2",
            "torch.tensor(1.0) => torch.tensor(1.0) ** 0.5",
            "end => end ** 2",
            "end => end ** 0.5",
        ],
        "after the last step x is x0": ["x => x0 (4)"],
        "in a list written twice, the entries come first in the same order": [
            "indices => 2 * indices (4)"
        ],
    },
    "4.1": {
        "a cosine has no sign": ["angles => -angles"],
        "the number of channels is even": ["channels => channels + 1"],
        "arange takes a float, too": ["channels // 2 => channels / 2"],
    },
    "4.2": {
        "the norm removes it": ["h => 2 * h", "h => h / 2", "h => h + 1", "h => h - 1"],
    },
    "4.3": {
        SHIFT: [
            "q @ k.mT / q.shape[3] ** 0.5 => q @ k.mT / q.shape[3] ** 0.5 + 1",
            "q @ k.mT / q.shape[3] ** 0.5 => q @ k.mT / q.shape[3] ** 0.5 - 1",
            "q @ k.mT => q @ k.mT + 1",
            "q @ k.mT => q @ k.mT - 1",
            "split(k, heads) => split(k, heads) + 1",
            "split(k, heads) => split(k, heads) - 1",
            *(f"k => k {sign} 1{n}" for sign in "+-" for n in ("", " (2)")),
        ],
        SAME_SIZE: ["q => k (3)", "q => v (3)"],
    },
    "5.1": {
        SQUARED: [
            "x - reconstruction => reconstruction - x",
            "x - reconstruction => -(x - reconstruction)",
            "mu => -mu",
        ]
    },
    "5.3": {SQUARED: ["mu => -mu", "mu => -mu (2)"]},
    "5.4": {
        "a variance changes neither with the sign nor with the mean": [
            "mu => -mu",
            "mu => mu + 1",
            "mu => mu - 1",
        ]
    },
    "6.1": {
        BOOLEAN: [
            "word.startswith(piece, start) => -word.startswith(piece, start)",
            "word.startswith(piece, start) => 2 * word.startswith(piece, start)",
            "word.startswith(piece, start) => word.startswith(piece, start) ** 2",
            "word.startswith(piece, start) => word.startswith(piece, start) ** 0.5",
            "word.startswith(piece, start) => word.startswith(piece, start) / 2",
        ],
        "a list with every piece twice has the same pieces": [
            "vocabulary => 2 * vocabulary",
            "fitting => 2 * fitting",
        ],
        "a word written twice starts with the same letters": [
            "word => 2 * word (2)",
            "word => 2 * word (3)",
        ],
        "the last piece is also the last of the list written twice": ["pieces => 2 * pieces (2)"],
    },
    "6.2": {
        SHIFT: [
            "q @ k.T / q.shape[1] ** 0.5 => q @ k.T / q.shape[1] ** 0.5 + 1",
            "q @ k.T / q.shape[1] ** 0.5 => q @ k.T / q.shape[1] ** 0.5 - 1",
            "q @ k.T => q @ k.T + 1",
            "q @ k.T => q @ k.T - 1",
            "k => k + 1",
            "k => k - 1",
            "scores.masked_fill(hidden, -torch.inf) => scores.masked_fill(hidden, -torch.inf) + 1",
            "scores.masked_fill(hidden, -torch.inf) => scores.masked_fill(hidden, -torch.inf) - 1",
            "scores => scores + 1",
            "scores => scores - 1",
        ],
        INFINITE: [
            "-torch.inf => 2 * -torch.inf",
            "-torch.inf => -torch.inf / 2",
            "-torch.inf => -torch.inf + 1",
            "-torch.inf => -torch.inf - 1",
        ],
        SAME_SIZE: [
            "q => k (2)",
            "q => k (3)",
            "q => v (3)",
            "q => scores (3)",
            "k => q (2)",
            "k => v (2)",
            "k => scores (2)",
        ],
        "a half or a double has the same sign": ["ages => 2 * ages", "ages => ages / 2"],
        "`or` doesn't depend on the order": [
            "(ages < 0) | (ages >= window) => (ages >= window) | (ages < 0)",
        ],
    },
    "6.3": {
        "it leaves the largest where it is": [
            "(ids == end).int() => 2 * (ids == end).int()",
            "(ids == end).int() => (ids == end).int() ** 2",
            "(ids == end).int() => (ids == end).int() ** 0.5",
            "(ids == end).int() => (ids == end).int() / 2",
            "(ids == end).int() => (ids == end).int() + 1",
            "(ids == end).int() => (ids == end).int() - 1",
        ],
        SAME_SIZE: ["ids => context (2)", "ids => first (2)"],
    },
    "6.4": {
        UNIT: [
            "images => 2 * images",
            "images => images / 2",
            "captions => 2 * captions",
            "captions => captions / 2",
        ],
        "the entries are 0 and 1": [
            "torch.eye(len(logits)) => torch.eye(len(logits)) ** 2",
            "torch.eye(len(logits)) => torch.eye(len(logits)) ** 0.5",
        ],
        SAME_SIZE: [
            "logits => captions",
            "logits => images",
            "logits => captions (3)",
            "logits => images (3)",
            "logits => signs (3)",
        ],
    },
    "7.1": {
        SHIFT: [
            "q @ k.transpose(1, 2) / q.shape[2] ** 0.5 => "
            "q @ k.transpose(1, 2) / q.shape[2] ** 0.5 + 1",
            "q @ k.transpose(1, 2) / q.shape[2] ** 0.5 => "
            "q @ k.transpose(1, 2) / q.shape[2] ** 0.5 - 1",
            "q @ k.transpose(1, 2) => q @ k.transpose(1, 2) + 1",
            "q @ k.transpose(1, 2) => q @ k.transpose(1, 2) - 1",
            "k.transpose(1, 2) => k.transpose(1, 2) + 1",
            "k.transpose(1, 2) => k.transpose(1, 2) - 1",
            "k => k + 1",
            "k => k - 1",
            "scores.masked_fill(padding, -torch.inf) => "
            "scores.masked_fill(padding, -torch.inf) + 1",
            "scores.masked_fill(padding, -torch.inf) => "
            "scores.masked_fill(padding, -torch.inf) - 1",
            "scores => scores + 1",
            "scores => scores - 1",
        ],
        INFINITE: [
            "-torch.inf => 2 * -torch.inf",
            "-torch.inf => -torch.inf / 2",
            "-torch.inf => -torch.inf + 1",
            "-torch.inf => -torch.inf - 1",
        ],
        SAME_SIZE: ["q => k (2)", "k => v (2)"],
    },
    "7.3": {
        "this exercise repairs a layer's use and trains nothing: gradients aren't compared": [
            "layer(q, kv, kv)[0].transpose(0, 1) => detached(layer(q, kv, kv)[0].transpose(0, 1))",
            "layer(q, kv, kv)[0] => detached(layer(q, kv, kv)[0])",
        ],
        "the first of two tuples in a row is the same": [
            "layer(q, kv, kv) => 2 * layer(q, kv, kv)"
        ],
        SHIFT: ["kv => kv + 1", "kv => kv - 1"],
    },
    "8.1": {SQUARED: ["sigma => -sigma"]},
    "8.4": {
        SAME_SIZE: ["strong => conditional"],
        "a standard deviation changes neither with the sign nor with the mean": [
            "conditional => -conditional",
            "conditional => conditional + 1",
            "conditional => conditional - 1",
            "strong => -strong (2)",
            "strong => strong + 1 (2)",
            "strong => strong - 1 (2)",
        ],
    },
    "9.5": {"int() rounds the root down": ["weights.shape[2] => weights.shape[2] + 1"]},
    "10.1": {
        "a list twice over begins with the same entries": [
            "family => 2 * family",
            "family => 2 * family (2)",
        ],
        "a pair that is read again joins nothing more": ["pairs => 2 * pairs"],
    },
    "10.2": {
        "a common factor of sums and sizes cancels": [
            *(
                f"F.one_hot(concepts).float() => {new}"
                for new in (
                    "-F.one_hot(concepts).float()",
                    "2 * F.one_hot(concepts).float()",
                    "F.one_hot(concepts).float() / 2",
                )
            ),
            *(
                f"F.one_hot(concepts) => {new}"
                for new in (
                    "-F.one_hot(concepts)",
                    "2 * F.one_hot(concepts)",
                    "F.one_hot(concepts) / 2",
                )
            ),
        ],
        "0 and 1 are their own squares": [
            *(
                f"{part} => {part} ** {power}"
                for power in ("2", "0.5")
                for part in ("F.one_hot(concepts).float()", "F.one_hot(concepts)", "member")
            ),
            *(f"member => member ** {power} (2)" for power in ("2", "0.5")),
        ],
    },
    "11.1": {
        "the first columns of U and rows of Vt are the same": ["False => True"],
        SQUARED: ["S => -S (2)", "S => -S (3)", "S[rank:] => -S[rank:]"],
        "the squared norm is the sum of the squared singular values": ["S => delta (3)"],
        "a diagonal matrix is symmetric": [
            "U[:, :rank] @ torch.diag(S[:rank]) => U[:, :rank] @ torch.diag(S[:rank]).mT"
        ],
    },
    "11.3": {
        SQUARED: [
            "network(zt, t, c) - (eps - z) => -(network(zt, t, c) - (eps - z))",
            "network(zt, t, c) - (eps - z) => eps - z - network(zt, t, c)",
        ]
    },
    "12.1": {SQUARED: ["weights => -weights (2)"]},
    "12.5": {
        "the height is even, and half of it up is the same as half of it down": [
            "x.shape[2] // 2 => -(x.shape[2] // 2)",
            "x.shape[2] => -x.shape[2]",
            "x.shape[2] => x.shape[2] + 1",
        ]
    },
    "13.2": {
        "the second number is 0 or 1": ["int(part) => int(part) ** 2"],
        "of two, the last one is also number -1": ["int(part) => -int(part)"],
        "a block's number is 0 or 1": ["block => block ** 2 (2)"],
    },
    "13.4": {SQUARED: ["z - mean => mean - z", "z - mean => -(z - mean)"]},
    "15a.2": {
        SAME_SIZE: ["hidden => nats"],
        "True and False are their own squares and roots": [
            *("hidden => hidden ** 2 (2)", "hidden => hidden ** 0.5 (2)"),
            *("hidden => hidden ** 2 (3)", "hidden => hidden ** 0.5 (3)"),
        ],
    },
    "15a.3": {
        '"and" has no order': [
            "(x == mask) & (draws < (t - s) / t) => (draws < (t - s) / t) & (x == mask)"
        ],
        "a uniform draw doesn't meet a boundary": ["draws < (t - s) / t => draws <= (t - s) / t"],
    },
    "15b.1": {
        "a covariance is symmetric": [
            "covariance @ ray => covariance.mT @ ray",
            "covariance @ ray => ray @ covariance",
        ],
        "an inner product has no order": [
            "ray @ along => along @ ray",
            "ray @ mean => mean @ ray",
        ],
        SQUARED: ["noise_std => -noise_std"],
    },
    "15b.2": {
        "a spread doesn't change when all samples are moved or mirrored": [
            "samples => -samples (2)",
            "samples => samples + 1 (2)",
            "samples => samples - 1 (2)",
        ],
        "0 and 1 are their own squares and roots": [
            "((truth - mean).abs() <= 1.64 * std).float() => "
            "((truth - mean).abs() <= 1.64 * std).float() ** 2",
            "((truth - mean).abs() <= 1.64 * std).float() => "
            "((truth - mean).abs() <= 1.64 * std).float() ** 0.5",
        ],
        "only its size is used": [
            "truth - mean => mean - truth",
            "truth - mean => -(truth - mean)",
        ],
    },
    "15b.3": {
        SQUARED: [
            *("sigma => -sigma", "sigma => -sigma (2)", "sigma => -sigma (3)", "alpha => -alpha"),
            "noise_std => -noise_std",
        ],
        "a mask of 0 and 1 is its own square": [
            "mask => mask ** 2",
            "mask => mask ** 0.5",
        ],
        "a constant has no gradient": ["x0 => x0 + 1 (2)", "x0 => x0 - 1 (2)"],
    },
    "15c.2": {
        "a standard deviation changes neither with the sign nor with the mean": [
            "gains => -gains (2)",
            "gains => gains + 1 (2)",
            "gains => gains - 1 (2)",
        ],
        "only their number is used, and all three have the same": [
            "gains => after (3)",
            "gains => before (3)",
        ],
    },
    "15c.3": {
        "the values are 0 and 1": [
            "(found < limit).float() => (found < limit).float() ** 2",
            "(found < limit).float() => (found < limit).float() ** 0.5",
        ],
        "the limit lies between two distances, so none is equal to it": [
            "found < limit => found <= limit"
        ],
    },
    "14.1": {"the cosine is even": ["angle => -angle"]},
    "14.2": {
        SQUARED: [
            "d_alpha - alpha / sigma * d_sigma => -(d_alpha - alpha / sigma * d_sigma)",
            "d_alpha - alpha / sigma * d_sigma => alpha / sigma * d_sigma - d_alpha",
        ]
    },
    "14.4": {
        SQUARED: [
            "student(xt, t) - (noise - x0) => noise - x0 - student(xt, t)",
            "student(xt, t) - (noise - x0) => -(student(xt, t) - (noise - x0))",
        ]
    },
    "14.6": {"a multiple of the patch size, divided and rounded down": ["height => height + 1"]},
    "16.1": {
        "only the sign of a gap counts, and the root of a negative one is neither": [
            "others[None] - members[:, None] => 2 * (others[None] - members[:, None])",
            "others[None] - members[:, None] => (others[None] - members[:, None]) ** 0.5",
            "others[None] - members[:, None] => (others[None] - members[:, None]) / 2",
            *(f"gaps => {each}" for each in ("2 * gaps", "gaps ** 0.5", "gaps / 2")),
        ],
        "only zero and non-zero differ": [
            *(f"gaps => {each} (2)" for each in ("-gaps", "2 * gaps", "gaps ** 2", "gaps / 2")),
            "gaps => gaps ** 0.5 (2)",
        ],
        "0 and 1 are their own squares": [
            "(gaps > 0).double() => (gaps > 0).double() ** 2",
            "(gaps > 0).double() => (gaps > 0).double() ** 0.5",
        ],
    },
    "16.2": {
        "a ratio doesn't change when both distances are scaled": [
            "torch.cdist(samples, training) => 2 * torch.cdist(samples, training)",
            "torch.cdist(samples, training) => torch.cdist(samples, training) / 2",
        ]
    },
    "16.4": {
        "the numbers don't repeat, so no distance equals the limit": [
            "nearest < limit => nearest <= limit"
        ],
    },
    "16.5": {
        "each row is divided by its sum, so a common factor cancels": [
            *(f"probabilities => {each}probabilities" for each in ("-", "2 * ")),
            *(f"shares => {each}shares" for each in ("-", "2 * ")),
            *(f"prior => {each}prior{which}" for each in ("-", "2 * ") for which in ("", " (2)")),
            *(
                f"{product} => {each}({product})"
                for product in ("probabilities * shares", "probabilities * shares / prior")
                for each in ("-", "2 * ")
            ),
            *(
                f"{half} => {half} / 2"
                for half in (
                    *("probabilities", "probabilities * shares"),
                    *("probabilities * shares / prior", "shares", "prior"),
                )
            ),
            "prior => prior / 2 (2)",
        ],
    },
    "18.5": {SQUARED: ["sigma => -sigma", "xt => -xt"]},
    "18.6": {
        "at the clean end alpha-bar is 1": [
            "torch.tensor(1.0) => torch.tensor(1.0) ** 2",
            "torch.tensor(1.0) => torch.tensor(1.0) ** 0.5",
            "end => end ** 2",
            "end => end ** 0.5",
            "x => x0 (3)",
        ],
        "a list twice over begins with the list": ["timesteps => 2 * timesteps (3)"],
    },
}
