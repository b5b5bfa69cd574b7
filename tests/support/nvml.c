/* What NVML is to a caller: two GPUs, of which the second has no counter; the first counts up by 2.5 J a reading. */
#include <string.h>

static unsigned long long millijoules = 1000000;

int nvmlInit_v2(void) { return 0; }

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (strcmp(uuid, "GPU-one") && strcmp(uuid, "GPU-two")) return 6;
    *device = (void *)(strcmp(uuid, "GPU-one") ? 2L : 1L);
    return 0;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy) {
    if (device != (void *)1L) return 3;
    *energy = millijoules += 2500;
    return 0;
}
