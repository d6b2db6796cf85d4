"""Templates of the functions in C headers.

$name is the name of the network, $real its floating-point type, and $f the suffix that math.h functions have for this
type.
"""

from __future__ import annotations

from nnc._interop.program import SCALE_SIGNS

SCALE = """\
static inline void ${name}_%s(const $real *in, const $real *numbers, int m, $real *out, int n)
{
    for (int i = 0; i < n; i += m)
        for (int j = 0; j < m; j++)
            out[i + j] = in[i + j] %s numbers[j];
}
"""
SCALES = {function: SCALE % (function, sign) for function, sign in SCALE_SIGNS.items()}
POOL = """\
/* %(statistic)s of each window of kh x kw pixels, for each channel. */
static inline void ${name}_%(name)s(const $real *in, int width, int channels, int kh, int kw, int sy, int sx,
                                    $real *out, int rows, int columns)
{
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++)
            for (int c = 0; c < channels; c++) {
                const $real *first = &in[(((y * sy * width) + (x * sx)) * channels) + c];
                $real %(result)s = %(start)s;
                for (int ky = 0; ky < kh; ky++)
                    for (int kx = 0; kx < kw; kx++) {
                        const $real number = first[((ky * width) + kx) * channels];
                        %(result)s = %(next)s;
                    }
                *out = %(output)s;
                out++;
            }
}
"""
MAX_POOL = POOL % {
    "statistic": "Maximum",
    "name": "max_pool",
    "result": "largest",
    "start": "*first",
    "next": "(number > largest) ? number : largest",
    "output": "largest",
}
AVG_POOL = POOL % {
    "statistic": "Mean",
    "name": "avg_pool",
    "result": "sum",
    "start": "0.0$f",
    "next": "sum + number",
    "output": "sum / ($real)(kh * kw)",
}
# Templates of the C functions by name. A header contains only the functions that the network needs.
FUNCTIONS = {
    **SCALES,
    "subtract": "/* The m operands are repeated for all n inputs. */\n" + SCALES["subtract"],
    "dense": """\
/* Dense layer: out[j] = b[j] + sum over i of W[j][i] * in[i]. */
static inline void ${name}_dense(const $real *in, int n, const $real *W, const $real *b, $real *out, int m)
{
    int i, j;
    for (j = 0; j < m; j++, W += n) {
        $real sum = b ? b[j] : 0;
        for (i = 0; i < n; i++)
            sum += W[i] * in[i];
        out[j] = sum;
    }
}
""",
    "conv": """\
/* Convolution with zero padding: out[y][x][j] = b[j] + sum over ky, kx and c of
   W[j][ky][kx][c] * in[y * sy - top + ky][x * sx - left + kx][c]. Positions outside of the image are skipped. */
static inline void ${name}_conv(const $real *in, int height, int width, int channels, const $real *W, const $real *b,
                                int kh, int kw, int sy, int sx, int top, int left,
                                $real *out, int rows, int columns, int m)
{
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++) {
            const int y0 = (y * sy) - top;
            const int x0 = (x * sx) - left;
            const int ky0 = (y0 < 0) ? -y0 : 0;
            const int ky1 = ((y0 + kh) > height) ? (height - y0) : kh;
            const int kx0 = (x0 < 0) ? -x0 : 0;
            const int kx1 = ((x0 + kw) > width) ? (width - x0) : kw;
            const int n = (kx1 - kx0) * channels;
            for (int j = 0; j < m; j++) {
                $real sum = b ? b[j] : 0.0$f;
                for (int ky = ky0; ky < ky1; ky++) {
                    const $real *row = &in[(((y0 + ky) * width) + x0 + kx0) * channels];
                    const $real *weights = &W[((((j * kh) + ky) * kw) + kx0) * channels];
                    for (int i = 0; i < n; i++)
                        sum += weights[i] * row[i];
                }
                *out = sum;
                out++;
            }
        }
}
""",
    "max_pool": MAX_POOL,
    "avg_pool": AVG_POOL,
    "softmax": """\
/* Overwrite n numbers by their softmax. Subtracting the largest one prevents overflow. */
static inline void ${name}_softmax($real *a, int n)
{
    $real largest = a[0];
    $real sum = 0.0$f;
    for (int i = 1; i < n; i++)
        largest = (a[i] > largest) ? a[i] : largest;
    for (int i = 0; i < n; i++) {
        a[i] = exp$f(a[i] - largest);
        sum += a[i];
    }
    for (int i = 0; i < n; i++)
        a[i] /= sum;
}
""",
    "sort": """\
/* Replace the quantiles of each target by their sorted values. Each group of m numbers has one quantile of all
   targets. */
static inline void ${name}_sort($real *a, int n, int m)
{
    for (int i = m; i < n; i++) {
        const $real number = a[i];
        int j = i - m;
        for (; (j >= 0) && (a[j] > number); j -= m)
            a[j + m] = a[j];
        a[j + m] = number;
    }
}
""",
    "sigmoid_of": """\
static inline $real ${name}_sigmoid_of($real z)
{
    return 1 / (1 + exp$f(-z));
}
""",
    "softplus_of": """\
/* log(1 + exp(z)) without overflow. */
static inline $real ${name}_softplus_of($real z)
{
    return (z > 0 ? z : 0) + log1p$f(exp$f(z > 0 ? -z : z));
}
""",
    "Phi_of": """\
/* Cumulative distribution function of the standard normal distribution. */
static inline $real ${name}_Phi_of($real z)
{
    return erfc$f(-z * $root) / 2;
}
""",
    "dense_steps": """\
/* Dense layer for each step of a sequence: n inputs and m outputs. */
static inline void ${name}_dense_steps(const $real *in, int steps, int n, const $real *W, const $real *b,
                                       $real *out, int m)
{
    for (; steps > 0; steps--, in += n, out += m)
        ${name}_dense(in, n, W, b, out, m);
}
""",
    "conv_step": """\
/* One step of a causal convolution with n inputs x and m outputs. A window has the inputs of size steps, which are
   dilation steps apart. The ring buffer h has the inputs of the last (size - 1) * dilation steps. *oldest is the index
   of the oldest step in it, which x replaces. */
static inline void ${name}_conv_step(const $real *x, int n, const $real *W, const $real *b, int size, int dilation,
                                     $real *h, int *oldest, $real *out, int m)
{
    const int steps = (size - 1) * dilation, first = *oldest;
    int j, k;
    for (j = 0; j < m; j++) {
        $real sum = b ? b[j] : 0;
        for (k = 0; k < steps; k += dilation, W += n)
            sum = ${name}_dot(W, h + (first + k) % steps * n, n, sum);
        out[j] = ${name}_dot(W, x, n, sum);
        W += n;
    }
    for (j = 0; j < n; j++)
        h[first * n + j] = x[j];
    *oldest = (first + 1) % steps;
}
""",
    "dot": """\
/* Return sum + w[0] * x[0] + ... + w[n - 1] * x[n - 1]. */
static inline $real ${name}_dot(const $real *w, const $real *x, int n, $real sum)
{
    int i;
    for (i = 0; i < n; i++)
        sum += w[i] * x[i];
    return sum;
}
""",
    "find_words": """\
static inline int ${name}_is_word_character(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (unsigned char)c > 127;
}

/* Return the number of words of a text in UTF-8. */
static inline double ${name}_count_words(const char *text)
{
    double count = 0;
    int inside = 0;
    for (; *text; text++) {
        if (${name}_is_word_character(*text) && !inside)
            count++;
        inside = ${name}_is_word_character(*text);
    }
    return count;
}

static inline int ${name}_contains_word(const char *text, const char *word)
{
    while (*text) {
        const char *next = word;
        while (*next && *next == (*text >= 'A' && *text <= 'Z' ? (char)(*text + ('a' - 'A')) : *text)) {
            text++;
            next++;
        }
        if (!*next && !${name}_is_word_character(*text))
            return 1;
        while (${name}_is_word_character(*text))
            text++;
        while (*text && !${name}_is_word_character(*text))
            text++;
    }
    return 0;
}

/* Return the sum of 2 ** i for the index i of each of the n words that a text in UTF-8 contains. */
static inline double ${name}_find_words(const char *text, const char *const *words, int n)
{
    double sum = 0, power = 1;
    for (int i = 0; i < n; i++) {
        if (${name}_contains_word(text, words[i]))
            sum += power;
        power *= 2;
    }
    return sum;
}
""",
    "gru_step": """\
/* One step of a GRU with n inputs x and m units, whose states h are replaced. The rows of W and U and the biases are
   ordered by unit, then by gate: z, r, n. The biases of a unit are those of x, then those of h. */
static inline void ${name}_gru_step(const $real *x, int n, const $real *W, const $real *U, const $real *b,
                                    $real *h, $real *next, int m)
{
    int j, k;
    for (j = 0; j < m; j++) {
        $real u[3], v[3], z;
        for (k = 0; k < 3; k++) {
            u[k] = ${name}_dot(W + (3 * j + k) * n, x, n, b ? b[6 * j + k] : 0);
            v[k] = ${name}_dot(U + (3 * j + k) * m, h, m, b ? b[6 * j + 3 + k] : 0);
        }
        z = ${name}_sigmoid_of(u[0] + v[0]);
        next[j] = z * h[j] + (1 - z) * tanh$f(u[2] + ${name}_sigmoid_of(u[1] + v[1]) * v[2]);
    }
    for (j = 0; j < m; j++)
        h[j] = next[j];
}
""",
    "lstm_step": """\
/* One step of an LSTM with n inputs x and m units. The m states h, which the m cell states c follow, are replaced. The
   rows of W and U and the biases are ordered by unit, then by gate: i, f, g, o. */
static inline void ${name}_lstm_step(const $real *x, int n, const $real *W, const $real *U, const $real *b,
                                     $real *h, $real *next, int m)
{
    $real *c = h + m;
    int j, k;
    for (j = 0; j < m; j++) {
        $real z[4];
        for (k = 0; k < 4; k++)
            z[k] = ${name}_dot(U + (4 * j + k) * m, h, m,
                               ${name}_dot(W + (4 * j + k) * n, x, n, b ? b[4 * j + k] : 0));
        c[j] = ${name}_sigmoid_of(z[1]) * c[j] + ${name}_sigmoid_of(z[0]) * tanh$f(z[2]);
        next[j] = ${name}_sigmoid_of(z[3]) * tanh$f(c[j]);
    }
    for (j = 0; j < m; j++)
        h[j] = next[j];
}
""",
}

ELEMENTWISE = """\
static inline void ${name}_$activation($real *a, int n)
{
    for (int i = 0; i < n; i++) {
        const $real z = a[i];
        a[i] = $formula;
    }
}
"""
SIMPLE_RNN_STEP = """\
/* One step of a simple recurrent layer with n inputs x and m units, whose states h are replaced. */
static inline void ${name}_${cell}_step(const $real *x, int n, const $real *W, const $real *U, const $real *b,
                                 $real *h, $real *next, int m)
{
    int j;
    for (j = 0; j < m; j++)
        next[j] = ${name}_dot(U + j * m, h, m, ${name}_dot(W + j * n, x, n, b ? b[j] : 0));
    ${name}_$activation(next, m);
    for (j = 0; j < m; j++)
        h[j] = next[j];
}
"""
RECUR = """\
/* Recurrent layer for a sequence, which begins with the last step if reverse is 1. The state after step t is stored in
   out[t * stride]; with a stride of 0, only the last state remains. */
static inline void ${name}_${cell}(const $real *in, int steps, int n, const $real *W, const $real *U, const $real *b,
                                 int reverse, $real *h, int n_states, $real *next, $real *out, int m, int stride)
{
    int i, j;
    for (j = 0; j < n_states; j++)
        h[j] = 0;
    for (i = 0; i < steps; i++) {
        const int t = reverse ? steps - 1 - i : i;
        ${name}_${cell}_step(in + t * n, n, W, U, b, h, next, m);
        for (j = 0; j < m; j++)
            out[t * stride + j] = h[j];
    }
}
"""
