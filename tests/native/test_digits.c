/* The digit models that ship say what PyTorch says, on images that they were not trained on.
 *
 * tests/real/digits.bin (made by digits.py beside it, layout below) holds test digits, their
 * labels, and for each model PyTorch's logits. The files hold f16 weights where PyTorch had f32:
 * a logit may move by 2^-11 of its size a few hundred times over, so it stays within 1e-2 of the
 * largest one (measured: below 1e-3); a fault moves it by more than 1e-1. */
#include "tests/native/check.h"
#include "tests/native/fixture.h"

#include <stdlib.h>
#include <string.h>

enum { SIZE = 28, PATCH = 4, SIDE = SIZE / PATCH, CLASSES = 10, N_MODELS = 2 };
enum { N_PATCHES = SIDE * SIDE, N_FEATURES = PATCH * PATCH, N_PIXELS = SIZE * SIZE };
enum { N_SHORT = 5 }; /* images of the short form: each goes the same way through the code */

static const double TOLERANCE = 1e-2;
static const char *const PATHS[N_MODELS] = {"models/digits-qkv.f16.gguf",
                                            "models/digits-keqv.f16.gguf"};

/* The file: "OKVD", u32 number of images n, u32 number of models, f32 logits [models][n][10],
 * u8 labels [n], u8 pixels [n][28][28]. */
typedef struct digit_data {
  uint32_t n;
  const float *logits;
  const uint8_t *labels;
  const uint8_t *pixels;
  file_bytes file;
} digit_data;

static digit_data digits_read(const char *path) {
  digit_data out = {0};
  out.file = read_file(path);
  uint32_t header[3] = {0, 0, 0};
  if (out.file.n_bytes >= sizeof header) memcpy(header, out.file.bytes, sizeof header);
  out.n = header[1];
  size_t n_bytes = sizeof header + (size_t)out.n * (4 * CLASSES * N_MODELS + 1 + N_PIXELS);
  if (memcmp(header, "OKVD", 4) != 0 || header[2] != N_MODELS || out.file.n_bytes != n_bytes) {
    printf("%s: no file of digits for %d models\n", path, N_MODELS);
    exit(EXIT_FAILURE);
  }
  const uint8_t *logits = out.file.bytes + sizeof header;
  out.logits = (const float *)(const void *)logits;
  out.labels = logits + 4 * (size_t)CLASSES * N_MODELS * out.n;
  out.pixels = out.labels + out.n;
  return out;
}

/* Patches in row order, pixels of a patch in row order, 0..1: features [49][16]. */
static void cut_patches(const uint8_t *pixels, float *features) {
  for (size_t row = 0; row < SIZE; row++) {
    for (size_t column = 0; column < SIZE; column++) {
      size_t patch = row / PATCH * SIDE + column / PATCH;
      size_t element = row % PATCH * PATCH + column % PATCH;
      features[patch * N_FEATURES + element] = (float)pixels[row * SIZE + column] / 255.0f;
    }
  }
}

static size_t largest(const float *logits) {
  size_t best = 0;
  for (size_t i = 1; i < CLASSES; i++) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}

static void check_model(const char *path, const onekv_model_options *options,
                        const digit_data *data, const float *expected, size_t n) {
  onekv_model *model = load_file(path, options);
  float features[N_PATCHES * N_FEATURES];
  size_t n_right = 0, n_same = 0;
  double worst = 0;
  check_state.context = path;
  for (size_t i = 0; i < n; i++) {
    const float *want = expected + i * CLASSES;
    const float *logits = NULL;
    size_t n_logits = 0;
    onekv_error error = {ONEKV_OK, ""};
    cut_patches(data->pixels + i * N_PIXELS, features);
    onekv_encode(model, NULL, features, N_PATCHES, &logits, &n_logits, &error);
    CHECK_SAY(error.status == ONEKV_OK && n_logits == 1, "image %zu: %s", i, error.message);
    if (n_logits != 1) break;
    double distance = relative_distance(logits, want, CLASSES);
    CHECK_SAY(distance <= TOLERANCE, "image %zu: distance %g", i, distance);
    if (distance > worst) worst = distance;
    n_same += largest(logits) == largest(want);
    n_right += largest(logits) == data->labels[i];
  }
  printf("%s, %s: %zu of %zu right, PyTorch's class on %zu, largest distance %.2g\n", path,
         onekv_model_level(model), n_right, n, n_same, worst);
  CHECK(n_same == n);
  CHECK(n_right * 100 >= n * 95);
  CHECK(onekv_model_close(model) == ONEKV_OK);
}

int main(int argc, char **argv) {
  digit_data data = digits_read("tests/real/digits.bin");
  onekv_pool *pool = NULL;
  CHECK(data.n >= 100);
  size_t n = check_is_short(argc, argv) ? N_SHORT : (size_t)data.n;
  CHECK(onekv_pool_open(NULL, 2, &pool) == ONEKV_OK);
  for (size_t m = 0; m < N_MODELS; m++) {
    for (onekv_level level = ONEKV_LEVEL_SCALAR; level <= ONEKV_LEVEL_RELAXED; level++) {
      onekv_model_options options = {.pool = pool, .level = level};
      check_model(PATHS[m], &options, &data, data.logits + m * data.n * CLASSES, n);
    }
  }
  onekv_pool_close(pool);
  free(data.file.bytes);
  return check_finish();
}
