/* A libnvidia-ml.so.1 that says what a text file tells it to.
 *
 * The file is named by FAKE_NVML and read again at every call, so that a test can change it under
 * a running program. Lines are `key=value`; what is not in it is not supported. Keys:
 *
 *   devices=2                         GPUs
 *   driver=570.1                      the driver's version
 *   error.FUNCTION=9                  what a function returns, whatever the device
 *   hang.FUNCTION=PATH                a function that returns when the file PATH is gone
 *   calls=PATH                        a file that gets a line `FUNCTION DEVICE` for each call
 *   xids=0:79,1:31                    XID events in their order, each delivered once: GPU, number
 *   0.uuid=GPU-…  0.name=…            of GPU 0; 0.mig.0.… of its first MIG instance
 *   0.lost=1                          every call about it says that it is lost
 *   0.error.FUNCTION=3                what a function returns for this device
 *   0.utilization=37 …                readings, in the library's own units
 *
 * The declarations are written from NVML's public documentation. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    TIMEOUT = 10,
    GPU_IS_LOST = 15,
};

enum { GPUS_MAX = 8, INSTANCES_MAX = 7, VALUE_BYTES = 256 };

typedef int nvmlReturn_t;
typedef unsigned long long u64;

typedef struct {
    char key[32]; /* "0." or "0.mig.1." */
    int gpu;
} Device;

static Device gpus[GPUS_MAX];
static Device instances[GPUS_MAX][INSTANCES_MAX];
static int initialised;
static int xids_delivered;
static long samples_allocated;
static long samples_taken;

/* --- the script ---------------------------------------------------------------------------- */

static int look_up(const char *prefix, const char *key, char *value) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return 0;
    char wanted[VALUE_BYTES], line[2 * VALUE_BYTES];
    int length = snprintf(wanted, sizeof wanted, "%s%s=", prefix, key);
    int found = 0;
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, wanted, length) != 0) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(value, VALUE_BYTES, "%s", line + length);
        found = 1;
    }
    fclose(file);
    return found;
}

static int number_of(const char *prefix, const char *key, double *value) {
    char text[VALUE_BYTES];
    if (!look_up(prefix, key, text)) return 0;
    *value = strtod(text, NULL);
    return 1;
}

static void log_call(const char *function, const Device *device) {
    char path[VALUE_BYTES];
    if (!look_up("", "calls", path)) return;
    FILE *file = fopen(path, "a");
    if (!file) return;
    fprintf(file, "%s %s\n", function, device ? device->key : "-");
    fclose(file);
}

/* What every function does at first: what the script says of it. */
static nvmlReturn_t enter(const char *function, const Device *device) {
    char key[VALUE_BYTES], path[VALUE_BYTES];
    double value;
    log_call(function, device);
    snprintf(key, sizeof key, "hang.%s", function);
    while (look_up("", key, path) && access(path, F_OK) == 0) usleep(2000);
    snprintf(key, sizeof key, "error.%s", function);
    if (number_of("", key, &value)) return (nvmlReturn_t)value;
    if (!initialised) return UNINITIALIZED;
    if (!device) return SUCCESS;
    if (number_of(device->key, key, &value)) return (nvmlReturn_t)value;
    if (number_of(device->key, "lost", &value) && value) return GPU_IS_LOST;
    char gpu[8];
    snprintf(gpu, sizeof gpu, "%d.", device->gpu);
    if (number_of(gpu, "lost", &value) && value) return GPU_IS_LOST;
    return SUCCESS;
}

static nvmlReturn_t ask(const char *function, const Device *device, const char *key, double *value) {
    nvmlReturn_t result = enter(function, device);
    if (result != SUCCESS) return result;
    return number_of(device->key, key, value) ? SUCCESS : NOT_SUPPORTED;
}

static nvmlReturn_t ask_text(const char *function, const char *prefix, const Device *device,
                             const char *key, char *buffer, unsigned length) {
    char text[VALUE_BYTES];
    nvmlReturn_t result = enter(function, device);
    if (result != SUCCESS) return result;
    if (!look_up(prefix, key, text)) return NOT_SUPPORTED;
    if (strlen(text) >= length) return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

#define UNSIGNED(function, key)                                              \
    nvmlReturn_t function(Device *device, unsigned *value) {                 \
        double number = 0;                                                   \
        nvmlReturn_t result = ask(#function, device, key, &number);          \
        if (result == SUCCESS) *value = (unsigned)number;                    \
        return result;                                                       \
    }

#define LONG(function, key)                                                  \
    nvmlReturn_t function(Device *device, u64 *value) {                      \
        double number = 0;                                                   \
        nvmlReturn_t result = ask(#function, device, key, &number);          \
        if (result == SUCCESS) *value = (u64)number;                         \
        return result;                                                       \
    }

#define NUMBERED(function, key)                                              \
    nvmlReturn_t function(Device *device, unsigned which, unsigned *value) { \
        char name[32];                                                       \
        double number = 0;                                                   \
        snprintf(name, sizeof name, key ".%u", which);                       \
        nvmlReturn_t result = ask(#function, device, name, &number);         \
        if (result == SUCCESS) *value = (unsigned)number;                    \
        return result;                                                       \
    }

/* --- the library ---------------------------------------------------------------------------- */

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    initialised++;
    nvmlReturn_t result = enter("nvmlInitWithFlags", NULL);
    if (result != SUCCESS) initialised--;
    return result;
}

nvmlReturn_t nvmlShutdown(void) {
    nvmlReturn_t result = enter("nvmlShutdown", NULL);
    if (result == SUCCESS) initialised--;
    return result;
}

const char *nvmlErrorString(nvmlReturn_t error) {
    (void)error;
    return "an error of the fake";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *buffer, unsigned length) {
    return ask_text("nvmlSystemGetDriverVersion", "", NULL, "driver", buffer, length);
}

/* --- devices -------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    double number = 0;
    nvmlReturn_t result = enter("nvmlDeviceGetCount_v2", NULL);
    if (result != SUCCESS) return result;
    number_of("", "devices", &number);
    *count = (unsigned)number;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    unsigned count = 0;
    nvmlReturn_t result = nvmlDeviceGetCount_v2(&count);
    if (result != SUCCESS) return result;
    if (index >= count || index >= GPUS_MAX) return INVALID_ARGUMENT;
    Device *gpu = &gpus[index];
    snprintf(gpu->key, sizeof gpu->key, "%u.", index);
    gpu->gpu = index;
    result = enter("nvmlDeviceGetHandleByIndex_v2", gpu);
    if (result == SUCCESS) *device = gpu;
    return result;
}

nvmlReturn_t nvmlDeviceGetUUID(Device *device, char *buffer, unsigned length) {
    return ask_text("nvmlDeviceGetUUID", device->key, device, "uuid", buffer, length);
}

nvmlReturn_t nvmlDeviceGetName(Device *device, char *buffer, unsigned length) {
    return ask_text("nvmlDeviceGetName", device->key, device, "name", buffer, length);
}

/* --- MIG ------------------------------------------------------------------------------------ */

nvmlReturn_t nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    double mode = 0;
    nvmlReturn_t result = ask("nvmlDeviceGetMigMode", device, "mig", &mode);
    if (result == SUCCESS) *current = *pending = (unsigned)mode;
    return result;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) {
    nvmlReturn_t result = enter("nvmlDeviceGetMaxMigDeviceCount", device);
    if (result == SUCCESS) *count = INSTANCES_MAX;
    return result;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **found) {
    char text[VALUE_BYTES];
    nvmlReturn_t result = enter("nvmlDeviceGetMigDeviceHandleByIndex", device);
    if (result != SUCCESS) return result;
    if (index >= INSTANCES_MAX) return INVALID_ARGUMENT;
    Device *instance = &instances[device->gpu][index];
    snprintf(instance->key, sizeof instance->key, "%d.mig.%u.", device->gpu, index);
    instance->gpu = device->gpu;
    if (!look_up(instance->key, "uuid", text)) return NOT_FOUND;
    *found = instance;
    return SUCCESS;
}

UNSIGNED(nvmlDeviceGetGpuInstanceId, "gpu_instance")

/* --- readings ------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetUtilizationRates(Device *device, unsigned rates[2]) {
    double gpu = 0, memory = 0;
    nvmlReturn_t result = ask("nvmlDeviceGetUtilizationRates", device, "utilization", &gpu);
    if (result != SUCCESS) return result;
    number_of(device->key, "memory_utilization", &memory);
    rates[0] = (unsigned)gpu;
    rates[1] = (unsigned)memory;
    return SUCCESS;
}

typedef struct {
    u64 total, free, used;
} Memory;

typedef struct {
    unsigned version;
    u64 total, reserved, free, used;
} MemoryV2;

nvmlReturn_t nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    double used = 0, total = 0, reserved = 0;
    nvmlReturn_t result = ask("nvmlDeviceGetMemoryInfo", device, "memory_total", &total);
    if (result != SUCCESS) return result;
    number_of(device->key, "memory_used", &used);
    number_of(device->key, "memory_reserved", &reserved);
    memory->total = (u64)total;
    memory->used = (u64)(used + reserved);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(Device *device, MemoryV2 *memory) {
    double used = 0, total = 0, reserved = 0;
    nvmlReturn_t result = ask("nvmlDeviceGetMemoryInfo_v2", device, "memory_total", &total);
    if (result != SUCCESS) return result;
    if (memory->version != (2u << 24 | sizeof *memory)) return INVALID_ARGUMENT;
    number_of(device->key, "memory_used", &used);
    number_of(device->key, "memory_reserved", &reserved);
    memory->total = (u64)total;
    memory->used = (u64)used;
    memory->reserved = (u64)reserved;
    memory->free = (u64)(total - used - reserved);
    return SUCCESS;
}

UNSIGNED(nvmlDeviceGetPowerUsage, "power")
UNSIGNED(nvmlDeviceGetEnforcedPowerLimit, "power_limit")
UNSIGNED(nvmlDeviceGetPcieReplayCounter, "pcie_replays")
LONG(nvmlDeviceGetTotalEnergyConsumption, "energy")
LONG(nvmlDeviceGetSupportedClocksEventReasons, "supported_reasons")
LONG(nvmlDeviceGetCurrentClocksEventReasons, "reasons")
NUMBERED(nvmlDeviceGetTemperature, "temperature")
NUMBERED(nvmlDeviceGetClockInfo, "clock")
NUMBERED(nvmlDeviceGetMaxClockInfo, "clock_max")
NUMBERED(nvmlDeviceGetPcieThroughput, "pcie")

nvmlReturn_t nvmlDeviceGetTotalEccErrors(Device *device, unsigned type, unsigned counter,
                                         u64 *count) {
    char key[32];
    double number = 0;
    snprintf(key, sizeof key, "ecc.%u.%u", type, counter);
    nvmlReturn_t result = ask("nvmlDeviceGetTotalEccErrors", device, key, &number);
    if (result == SUCCESS) *count = (u64)number;
    return result;
}

typedef struct {
    u64 referenceTime, violationTime;
} Violation;

nvmlReturn_t nvmlDeviceGetViolationStatus(Device *device, unsigned policy, Violation *violation) {
    char key[32];
    double number = 0;
    snprintf(key, sizeof key, "violation.%u", policy);
    nvmlReturn_t result = ask("nvmlDeviceGetViolationStatus", device, key, &number);
    if (result == SUCCESS) violation->violationTime = (u64)number;
    return result;
}

typedef struct {
    unsigned fieldId, scopeId;
    long long timestamp, latencyUsec;
    unsigned valueType;
    nvmlReturn_t nvmlReturn;
    union {
        double dVal;
        u64 ullVal;
    } value;
} FieldValue;

enum { UNSIGNED_LONG_LONG = 3 };

nvmlReturn_t nvmlDeviceGetFieldValues(Device *device, int count, FieldValue *values) {
    nvmlReturn_t result = enter("nvmlDeviceGetFieldValues", device);
    if (result != SUCCESS) return result;
    for (int i = 0; i < count; i++) {
        char key[32];
        double number = 0;
        snprintf(key, sizeof key, "field.%u", values[i].fieldId);
        values[i].nvmlReturn = number_of(device->key, key, &number) ? SUCCESS : NOT_SUPPORTED;
        values[i].valueType = UNSIGNED_LONG_LONG;
        values[i].value.ullVal = (u64)number;
    }
    return SUCCESS;
}

typedef struct {
    unsigned pid;
    u64 usedGpuMemory;
    unsigned gpuInstanceId, computeInstanceId;
} Process;

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count,
                                                     Process *processes) {
    double number = 0;
    nvmlReturn_t result =
        ask("nvmlDeviceGetComputeRunningProcesses_v3", device, "processes", &number);
    if (result != SUCCESS) return result;
    unsigned room = *count;
    *count = (unsigned)number;
    if (room < *count) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++) processes[i] = (Process){.pid = 100 + i};
    return SUCCESS;
}

/* --- XID events ----------------------------------------------------------------------------- */

typedef struct {
    int watched[GPUS_MAX];
} EventSet;

typedef struct {
    Device *device;
    u64 eventType, eventData;
    unsigned gpuInstanceId, computeInstanceId;
} EventData;

enum { XID_EVENT = 0x8 };

nvmlReturn_t nvmlEventSetCreate(EventSet **set) {
    nvmlReturn_t result = enter("nvmlEventSetCreate", NULL);
    if (result == SUCCESS) *set = calloc(1, sizeof **set);
    return result;
}

nvmlReturn_t nvmlDeviceRegisterEvents(Device *device, u64 types, EventSet *set) {
    nvmlReturn_t result = enter("nvmlDeviceRegisterEvents", device);
    if (result == SUCCESS && types == XID_EVENT) set->watched[device->gpu] = 1;
    return result;
}

nvmlReturn_t nvmlEventSetWait_v2(EventSet *set, EventData *data, unsigned timeout_ms) {
    char text[VALUE_BYTES];
    (void)timeout_ms;
    nvmlReturn_t result = enter("nvmlEventSetWait_v2", NULL);
    if (result != SUCCESS) return result;
    if (!look_up("", "xids", text)) return TIMEOUT;
    int number = 0;
    for (char *event = strtok(text, ","); event; event = strtok(NULL, ","), number++) {
        int gpu = 0, xid = 0;
        if (number < xids_delivered || sscanf(event, "%d:%d", &gpu, &xid) != 2) continue;
        xids_delivered = number + 1;
        if (gpu >= GPUS_MAX || !set->watched[gpu]) continue;
        *data = (EventData){.device = &gpus[gpu], .eventType = XID_EVENT, .eventData = xid};
        return SUCCESS;
    }
    return TIMEOUT;
}

nvmlReturn_t nvmlEventSetFree(EventSet *set) {
    nvmlReturn_t result = enter("nvmlEventSetFree", NULL);
    free(set);
    return result;
}

/* --- GPM ------------------------------------------------------------------------------------ */

typedef struct {
    char key[64]; /* of whose activity it is a sample; "" before one is taken */
    long order;
} GpmSample;

typedef struct {
    unsigned metricId;
    nvmlReturn_t nvmlReturn;
    double value;
    const char *info[3];
} GpmMetric;

typedef struct {
    unsigned version, numMetrics;
    GpmSample *sample1, *sample2;
    GpmMetric metrics[];
} GpmMetrics;

nvmlReturn_t nvmlGpmQueryDeviceSupport(Device *device, unsigned support[2]) {
    double supported = 0;
    nvmlReturn_t result = enter("nvmlGpmQueryDeviceSupport", device);
    number_of(device->key, "gpm", &supported);
    support[1] = supported != 0;
    return result;
}

nvmlReturn_t nvmlGpmSampleAlloc(GpmSample **sample) {
    nvmlReturn_t result = enter("nvmlGpmSampleAlloc", NULL);
    if (result == SUCCESS) *sample = calloc(1, sizeof **sample);
    if (result == SUCCESS) samples_allocated++;
    return result;
}

nvmlReturn_t nvmlGpmSampleFree(GpmSample *sample) {
    nvmlReturn_t result = enter("nvmlGpmSampleFree", NULL);
    free(sample);
    samples_allocated--;
    return result;
}

/* For the tests alone: samples that have not been freed. */
long fake_gpm_samples(void) { return samples_allocated; }

nvmlReturn_t nvmlGpmSampleGet(Device *device, GpmSample *sample) {
    nvmlReturn_t result = enter("nvmlGpmSampleGet", device);
    if (result != SUCCESS) return result;
    snprintf(sample->key, sizeof sample->key, "%sgpm.", device->key);
    sample->order = ++samples_taken;
    return SUCCESS;
}

nvmlReturn_t nvmlGpmMigSampleGet(Device *device, unsigned gpu_instance, GpmSample *sample) {
    nvmlReturn_t result = enter("nvmlGpmMigSampleGet", device);
    if (result != SUCCESS) return result;
    snprintf(sample->key, sizeof sample->key, "%sgpm.mig.%u.", device->key, gpu_instance);
    sample->order = ++samples_taken;
    return SUCCESS;
}

nvmlReturn_t nvmlGpmMetricsGet(GpmMetrics *request) {
    nvmlReturn_t result = enter("nvmlGpmMetricsGet", NULL);
    if (result != SUCCESS) return result;
    const GpmSample *first = request->sample1, *second = request->sample2;
    if (request->version != 1 || !*first->key || strcmp(first->key, second->key) != 0 ||
        first->order >= second->order)
        return INVALID_ARGUMENT;
    for (unsigned i = 0; i < request->numMetrics; i++) {
        char key[16];
        GpmMetric *metric = &request->metrics[i];
        snprintf(key, sizeof key, "%u", metric->metricId);
        metric->nvmlReturn =
            number_of(second->key, key, &metric->value) ? SUCCESS : NOT_SUPPORTED;
    }
    return SUCCESS;
}
