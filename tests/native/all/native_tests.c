/* All programs of tests/native in one: its first argument names the test, the others are for it. */
#include <stdio.h>
#include <string.h>

#include "tests/native/all/mains.h"

#define IS(name) (strcmp(wanted, #name) == 0)
#define WITH(name) \
  if (IS(name)) return name##_main(argc - 1, argv + 1);
#define WITHOUT(name) \
  if (IS(name)) return name##_main();

int main(int argc, char **argv) {
  const char *wanted = argc > 1 ? argv[1] : "";
#include "native_tests.inc"
  fprintf(stderr, "no such test: %s\n", wanted);
  return 2;
}
