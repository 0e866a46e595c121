/* The smallest program: loads a GGUF file and writes 20 tokens, token by token (core/README.md). */
#include "core/onekv.h"

#include <stdio.h>

static int fail(const char *what, const onekv_error *error) {
  fprintf(stderr, "%s: %s\n", what, error->message);
  return 1;
}

int main(int argc, char **argv) {
  static uint8_t bytes[1 << 16];
  onekv_error error = {ONEKV_OK, "not a file"};
  onekv_model_options options = {0};
  onekv_loader *loader = NULL;
  onekv_model *model = NULL;
  onekv_session *session = NULL;
  FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
  if (file == NULL) return fail("usage: example FILE.gguf", &error);
  if (onekv_pool_open(NULL, 1, &options.pool) != ONEKV_OK) return fail("pool", &error);
  if (onekv_loader_open(&options, &loader, &error) != ONEKV_OK) return fail("loader", &error);
  for (size_t n; (n = fread(bytes, 1, sizeof bytes, file)) > 0;) {
    if (onekv_loader_feed(loader, bytes, n, &error) != ONEKV_OK) return fail(argv[1], &error);
  }
  if (onekv_loader_finish(loader, &model, &error) != ONEKV_OK) return fail(argv[1], &error);
  if (onekv_session_open(model, NULL, &session, &error) != ONEKV_OK) return fail("session", &error);
  int32_t token = 1; /* the beginning of a text, in most vocabularies */
  for (int i = 0; i < 20; i++) {
    onekv_item item = {session, &token, 1, 1, NULL};
    if (onekv_step(model, &item, 1, &error) != ONEKV_OK) return fail("step", &error);
    if (onekv_sample(session, item.logits, &token) != ONEKV_OK) return fail("sample", &error);
    printf("%d\n", (int)token);
  }
  onekv_session_close(session);
  onekv_model_close(model);
  onekv_pool_close(options.pool);
  return fclose(file);
}
