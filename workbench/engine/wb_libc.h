/* The headers that wb.h needs; apart from it because cffi reads wb.h and takes no #include. */
#ifndef WB_LIBC_H
#define WB_LIBC_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stddef.h>
#include <stdint.h>
#include "wb_native.h"

#endif
