/* A fake of libcudart for tests: device memory is host memory, copies to the host happen when the stream is synchronised.
 *
 * FAKE_CUDA_ERROR: what cudaGetDeviceCount answers. FAKE_CUDA_SM: the compute capability, 53 by default. FAKE_CUDA_ROOM: bytes that
 * can be allocated. fake_trace() tells what was called: i copy in, e event, x execution, o copy out, s synchronise. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2, OUT_OF_MEMORY = 2, INVALID_VALUE = 1, MAX_PENDING = 64, MAX_TRACE = 4096 };

struct copy {
    void *to;
    const void *from;
    size_t size;
};

static struct copy pending[MAX_PENDING];
static int pending_count, live, trace_length;
static char trace[MAX_TRACE];
static size_t used;

static long setting(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value && *value ? atol(value) : otherwise;
}

void fake_mark(char what) {
    if (trace_length < MAX_TRACE - 1)
        trace[trace_length++] = what;
}

const char *fake_trace(void) {
    trace[trace_length] = 0;
    trace_length = 0;
    return trace;
}

int fake_live(void) { return live; }

int cudaGetDeviceCount(int *count) {
    int error = (int)setting("FAKE_CUDA_ERROR", 0);
    *count = error ? 0 : 1;
    return error;
}

const char *cudaGetErrorString(int error) {
    return error == 100 ? "no CUDA-capable device is detected" : error == OUT_OF_MEMORY ? "out of memory" : "some other error";
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    long sm = setting("FAKE_CUDA_SM", 53);
    *value = attribute == 75 ? (int)(sm / 10) : attribute == 76 ? (int)(sm % 10) : 0;
    return device == 0 ? 0 : INVALID_VALUE;
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = (size_t)3956 << 20;
    *free_bytes = *total - used;
    return 0;
}

int cudaRuntimeGetVersion(int *version) { return *version = 10020, 0; }
int cudaDriverGetVersion(int *version) { return *version = 12060, 0; }

static int make(void **made, size_t size) {
    if (used + size > (size_t)setting("FAKE_CUDA_ROOM", 1L << 40))
        return OUT_OF_MEMORY;
    used += size;
    live++;
    *made = calloc(1, size);
    return 0;
}

static int drop(void *made) {
    live--;
    free(made);
    return 0;
}

int cudaMalloc(void **made, size_t size) { return make(made, size); }
int cudaMallocHost(void **made, size_t size) { return make(made, size); }
int cudaFree(void *made) { return drop(made); }
int cudaFreeHost(void *made) { return drop(made); }
int cudaStreamCreate(void **made) { return make(made, 1); }
int cudaStreamDestroy(void *made) { return drop(made); }
int cudaEventCreate(void **made) { return make(made, sizeof(struct timespec)); }
int cudaEventDestroy(void *made) { return drop(made); }

int cudaEventRecord(void *event, void *stream) {
    fake_mark('e');
    clock_gettime(CLOCK_MONOTONIC, event);
    return stream ? 0 : INVALID_VALUE;
}

int cudaEventElapsedTime(float *elapsed_ms, void *begin, void *end) {
    struct timespec *from = begin, *to = end;
    *elapsed_ms = (float)((to->tv_sec - from->tv_sec) * 1e3 + (to->tv_nsec - from->tv_nsec) / 1e6);
    return 0;
}

int cudaMemcpyAsync(void *to, const void *from, size_t size, int way, void *stream) {
    fake_mark(way == HOST_TO_DEVICE ? 'i' : 'o');
    if (!stream || pending_count == MAX_PENDING)
        return INVALID_VALUE;
    if (way == HOST_TO_DEVICE)
        memcpy(to, from, size);
    else
        pending[pending_count++] = (struct copy){to, from, size};
    return 0;
}

int cudaStreamSynchronize(void *stream) {
    fake_mark('s');
    for (int at = 0; at < pending_count; at++)
        memcpy(pending[at].to, pending[at].from, pending[at].size);
    pending_count = 0;
    return stream ? (int)setting("FAKE_CUDA_SYNC_ERROR", 0) : INVALID_VALUE;
}
