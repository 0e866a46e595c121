/* Rows that stay in a model's file: core asks for them in steps, web/src/engine/bindings.ts has
 * them read. */
#include "core/onekv.h"

#include <emscripten/em_js.h>

void js_loader_rows(onekv_loader *loader, uintptr_t file);

/* Bytes of the file that JavaScript knows by this number; 0 if they cannot be had. */
EM_JS(int, js_read_row, (uintptr_t file, double offset, size_t n_bytes, uint8_t *out),
      { return Module.readRow(file, offset, n_bytes, out); })

static bool read_row(void *context, uint64_t offset, size_t n_bytes, uint8_t *out) {
  return js_read_row((uintptr_t)context, (double)offset, n_bytes, out) != 0;
}

/* JavaScript sees to it that nothing was fed before. */
void js_loader_rows(onekv_loader *loader, uintptr_t file) {
  onekv_row_source rows = {(void *)file, read_row};
  (void)onekv_loader_rows(loader, &rows);
}
