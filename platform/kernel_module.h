/* Drivers that the kernel has as modules and does not load by itself. */
#ifndef PLATFORM_KERNEL_MODULE_H
#define PLATFORM_KERNEL_MODULE_H

#include "platform/base.h"

/* True if `sign`, a file that is only there with the driver, is there, if need be after modprobe
 * was asked for the module. Not under lockdown. */
MUST_CHECK bool kernel_module_is_there(const char *module, const char *sign);

#endif
