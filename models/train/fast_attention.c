// Causal attention for training on CPUs: softmax(q k^T / sqrt(h)) v and its gradient, in f32.
//
// Built and called by fast_attention.py. PyTorch's CPU kernel is several times slower at the narrow
// heads of small models. Eight query rows go over the keys together, so that each key row is loaded
// once for all; the score map is never stored, the backward pass recomputes it from the row's
// log-sum-exp. Shapes: q, o, dq, dout [B][T][H][h]; k, v, dk, dv [B][T][G][h]; lse [B][H][T];
// h is a multiple of 16; query head i reads KV head i*G/H.

#include <math.h>
#include <stdlib.h>
#include <string.h>

// A vector register of the machine: a wider type is split into parts that do not fit its registers.
#ifdef __AVX512F__
enum { ROWS = 8, LANES = 16 };
#else
enum { ROWS = 8, LANES = 8 };
#endif

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
    int batch, length, heads, groups;
    float scale;
} Shape;

// [h][stride] from [T] rows of h floats that lie `step` floats apart; the tail is zero.
static void transpose(const float *x, int step, int length, int width, int stride, float *out) {
    for (int d = 0; d < width; d++) {
        for (int t = 0; t < length; t++) out[d * stride + t] = x[t * step + d];
        for (int t = length; t < stride; t++) out[d * stride + t] = 0.0f;
    }
}

// out[r][j] = scale * sum_d x[r][d] * columns[d][j], for ROWS rows and j < count (rounded up).
static inline __attribute__((always_inline)) void products(
    const float *const x[ROWS], const float *columns, int stride, int count, int width,
    float scale, float *out) {
    for (int j = 0; j < count; j += LANES) {
        lanes sum[ROWS] = {{0}};
        for (int d = 0; d < width; d++) {
            const lanes column = *(const lanes *)(columns + d * stride + j);
            for (int r = 0; r < ROWS; r++) sum[r] += x[r][d] * column;
        }
        for (int r = 0; r < ROWS; r++) *(lanes *)(out + r * stride + j) = scale * sum[r];
    }
}

// out[r][d] = sum_j p[r][j] * rows[j][d], for ROWS rows and j < count.
static inline __attribute__((always_inline)) void mix(
    const float *p, int stride, const float *rows, int count, int width,
    float *const out[ROWS]) {
    for (int d = 0; d < width; d += LANES) {
        lanes sum[ROWS] = {{0}};
        for (int j = 0; j < count; j++) {
            const lanes row = *(const lanes *)(rows + (size_t)j * width + d);
            for (int r = 0; r < ROWS; r++) sum[r] += p[r * stride + j] * row;
        }
        for (int r = 0; r < ROWS; r++) *(lanes *)(out[r] + d) = sum[r];
    }
}

// rows[j][d] += sum_r p[r][j] * x[r][d], for j < count.
static inline __attribute__((always_inline)) void scatter(
    const float *p, int stride, const float *const x[ROWS], int count, int width,
    float *rows) {
    for (int d = 0; d < width; d += LANES) {
        lanes part[ROWS];
        for (int r = 0; r < ROWS; r++) part[r] = *(const lanes *)(x[r] + d);
        for (int j = 0; j < count; j++) {
            lanes row = *(lanes *)(rows + (size_t)j * width + d);
            for (int r = 0; r < ROWS; r++) row += p[r * stride + j] * part[r];
            *(lanes *)(rows + (size_t)j * width + d) = row;
        }
    }
}

// Copies [T] rows of h floats between layouts: rows a power of two
// apart fall into the same cache sets, so a KV head is worked on as one block.
static void copy_rows(const float *x, int x_step, int length, int width, float *out,
                      int out_step) {
    for (int t = 0; t < length; t++) {
        memcpy(out + (size_t)t * out_step, x + (size_t)t * x_step, sizeof(float) * (size_t)width);
    }
}

static float softmax(float *s, int count, int stride) {
    float most = s[0], sum = 0.0f;
    for (int j = 1; j < count; j++) most = s[j] > most ? s[j] : most;
    for (int j = 0; j < count; j++) s[j] = expf(s[j] - most);
    for (int j = 0; j < count; j++) sum += s[j];
    const float inverse = 1.0f / sum;
    for (int j = 0; j < count; j++) s[j] *= inverse;
    memset(s + count, 0, (size_t)(stride - count) * sizeof *s);
    return most + logf(sum);
}

static int padded(int length) { return (length + LANES - 1) / LANES * LANES; }

// Rows beyond the sequence repeat the last one; their results go to a scrap row.
static int clamp_row(int i, int length) { return i < length ? i : length - 1; }

static inline __attribute__((always_inline)) void forward_head(
    const Shape *s, int width, const float *q, const float *columns, const float *v, float *o,
    float *lse, float *p) {
    const int n = s->length, stride = padded(n), q_step = s->heads * width;
    float *const scrap = p + ROWS * stride;
    for (int i = 0; i < n; i += ROWS) {
        const int count = i + ROWS < n ? i + ROWS : n;
        const float *rows[ROWS];
        float *out[ROWS];
        for (int r = 0; r < ROWS; r++) {
            rows[r] = q + (size_t)clamp_row(i + r, n) * q_step;
            out[r] = i + r < n ? o + (size_t)(i + r) * q_step : scrap;
        }
        products(rows, columns, stride, count, width, s->scale, p);
        for (int r = 0; r < ROWS; r++) {
            const int last = clamp_row(i + r, n);
            lse[last] = softmax(p + r * stride, last + 1, stride);
        }
        mix(p, stride, v, count, width, out);
    }
}

// p becomes the softmax from its log-sum-exp and dp the gradient of the scaled scores.
static void score_gradient(float *p, float *dp, int count, int stride, float lse, float delta,
                           float scale) {
    for (int j = 0; j < count; j++) p[j] = expf(p[j] - lse);
    for (int j = 0; j < count; j++) dp[j] = scale * p[j] * (dp[j] - delta);
    memset(p + count, 0, (size_t)(stride - count) * sizeof *p);
    memset(dp + count, 0, (size_t)(stride - count) * sizeof *dp);
}

typedef struct {
    const float *q, *k, *o, *dout, *lse, *k_columns, *v_columns;
    float *dq, *dk, *dv, *work;
} Backward;

static inline __attribute__((always_inline)) void backward_head(
    const Shape *s, int width, const Backward *b) {
    const int n = s->length, stride = padded(n), q_step = s->heads * width;
    float *const p = b->work, *const dp = p + ROWS * stride, *const scrap = dp + ROWS * stride;
    for (int i = 0; i < n; i += ROWS) {
        const int count = i + ROWS < n ? i + ROWS : n;
        const float *q[ROWS], *dout[ROWS];
        float *dq[ROWS];
        for (int r = 0; r < ROWS; r++) {
            const size_t at = (size_t)clamp_row(i + r, n) * q_step;
            q[r] = b->q + at;
            dout[r] = b->dout + at;
            dq[r] = i + r < n ? b->dq + at : scrap;
        }
        products(q, b->k_columns, stride, count, width, s->scale, p);
        products(dout, b->v_columns, stride, count, width, 1.0f, dp);
        for (int r = 0; r < ROWS; r++) {
            const int last = clamp_row(i + r, n), here = i + r < n ? last + 1 : 0;
            float delta = 0.0f;
            for (int d = 0; d < width; d++) delta += dout[r][d] * b->o[(size_t)last * q_step + d];
            score_gradient(p + r * stride, dp + r * stride, here, stride, b->lse[last], delta,
                           s->scale);
        }
        mix(dp, stride, b->k, count, width, dq);
        scatter(dp, stride, q, count, width, b->dk);
        scatter(p, stride, dout, count, width, b->dv);
    }
}

// Scratch for one (batch row, KV head): six matrices, two maps, a scrap row.
static float *scratch(int length, int width) {
    return aligned_alloc(64, sizeof(float) * (size_t)padded(length) *
                                 (size_t)(6 * width + 2 * ROWS) + 4096);
}

static inline __attribute__((always_inline)) int forward_all(
    const Shape *s, int width, const float *q, const float *k, const float *v, float *o,
    float *lse) {
    const int jobs = s->batch * s->groups, share = s->heads / s->groups, n = s->length,
              step = s->groups * width;
    int failed = 0;
#pragma omp parallel for schedule(static) reduction(| : failed)
    for (int job = 0; job < jobs; job++) {
        const int b = job / s->groups, g = job % s->groups;
        const size_t kv = ((size_t)b * n * s->groups + g) * width;
        const size_t area = (size_t)width * padded(n);
        float *columns = scratch(n, width);
        if (!columns) {
            failed = 1;
            continue;
        }
        transpose(k + kv, step, n, width, padded(n), columns);
        copy_rows(v + kv, step, n, width, columns + area, width);
        for (int head = g * share; head < (g + 1) * share; head++) {
            const size_t at = ((size_t)b * n * s->heads + head) * width;
            forward_head(s, width, q + at, columns, columns + area, o + at,
                         lse + ((size_t)b * s->heads + head) * n, columns + 2 * area);
        }
        free(columns);
    }
    return failed;
}

static inline __attribute__((always_inline)) int backward_all(
    const Shape *s, int width, const float *q, const float *k, const float *v, const float *o,
    const float *lse, const float *dout, float *dq, float *dk, float *dv) {
    const int jobs = s->batch * s->groups, share = s->heads / s->groups, n = s->length,
              step = s->groups * width;
    int failed = 0;
#pragma omp parallel for schedule(static) reduction(| : failed)
    for (int job = 0; job < jobs; job++) {
        const int b = job / s->groups, g = job % s->groups;
        const size_t kv = ((size_t)b * n * s->groups + g) * width;
        const size_t area = (size_t)width * padded(n);
        float *columns = scratch(n, width);
        if (!columns) {
            failed = 1;
            continue;
        }
        float *rows = columns + 2 * area, *dk_rows = rows + area, *dv_rows = dk_rows + area;
        transpose(k + kv, step, n, width, padded(n), columns);
        transpose(v + kv, step, n, width, padded(n), columns + area);
        copy_rows(k + kv, step, n, width, rows, width);
        memset(dk_rows, 0, sizeof(float) * 2 * area);
        for (int head = g * share; head < (g + 1) * share; head++) {
            const size_t at = ((size_t)b * n * s->heads + head) * width;
            const Backward part = {q + at, rows, o + at, dout + at,
                lse + ((size_t)b * s->heads + head) * n, columns, columns + area,
                dq + at, dk_rows, dv_rows, dv_rows + area};
            backward_head(s, width, &part);
        }
        copy_rows(dk_rows, width, n, width, dk + kv, step);
        copy_rows(dv_rows, width, n, width, dv + kv, step);
        free(columns);
    }
    return failed;
}

// 0, 1 out of memory, 2 head width not built.
int onekv_attention_forward(int batch, int length, int heads, int groups, int width,
                            const float *q, const float *k, const float *v, float *o, float *lse) {
    const Shape s = {batch, length, heads, groups, 1.0f / sqrtf((float)width)};
    switch (width) {
        case 16: return forward_all(&s, 16, q, k, v, o, lse);
        case 32: return forward_all(&s, 32, q, k, v, o, lse);
        case 64: return forward_all(&s, 64, q, k, v, o, lse);
        default: return 2;
    }
}

int onekv_attention_backward(int batch, int length, int heads, int groups, int width,
                             const float *q, const float *k, const float *v, const float *o,
                             const float *lse, const float *dout, float *dq, float *dk,
                             float *dv) {
    const Shape s = {batch, length, heads, groups, 1.0f / sqrtf((float)width)};
    switch (width) {
        case 16: return backward_all(&s, 16, q, k, v, o, lse, dout, dq, dk, dv);
        case 32: return backward_all(&s, 32, q, k, v, o, lse, dout, dq, dk, dv);
        case 64: return backward_all(&s, 64, q, k, v, o, lse, dout, dq, dk, dv);
        default: return 2;
    }
}
