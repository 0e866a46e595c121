/*
 * The mains of all programs of tests/native, under the names that they have in one of all.
 *
 * native_tests.inc, which CMake writes, has a line for each: WITH(name) of a main that takes
 * arguments, WITHOUT(name) of one that does not. Every test is compiled with this in front: a call
 * of the wrong type would trap as WebAssembly.
 */
#ifndef ONEKV_TESTS_MAINS_H
#define ONEKV_TESTS_MAINS_H

#define WITH(name) int name##_main(int argc, char **argv);
#define WITHOUT(name) int name##_main(void);
#include "native_tests.inc"
#undef WITH
#undef WITHOUT

#endif
