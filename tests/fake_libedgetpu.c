/* A fake of libedgetpu: TensorFlow Lite's external delegate plug-in and the part of edgetpu_c.h that lists devices.

   The delegate takes each `edgetpu-custom-op` of one int8 input and one output of the same size, and negates it. Environment variables:
     FAKE_EDGETPU_DEVICES  what is plugged in, by libedgetpu's own paths, in its order: "/sys/bus/usb/devices/2-1.4:/dev/apex_0"
     FAKE_EDGETPU          ok (default) | empty (no reason) | segfault | hang | mismatch | outdated
     FAKE_EDGETPU_OPTIONS  a file to write the options to that the delegate was made with, one NAME=VALUE a line
   The structures are those of tensorflow/lite/core/c/common.h, 64 bits, as far as they are used. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK, ERROR };

typedef struct {
    int size;
    int data[];
} IntArray;

typedef struct {
    int type;
    int8_t *data;
    IntArray *dims;
    struct {
        float scale;
        int32_t zero_point;
    } params;
    int allocation_type;
    size_t bytes;
    const void *allocation;
    const char *name;
    void *delegate;
    int buffer_handle;
    _Bool data_is_stale, is_variable;
    struct {
        int type;
        void *params;
    } quantization;
    void *sparsity;
    const IntArray *dims_signature;
} Tensor;

typedef struct {
    IntArray *inputs, *outputs;
} Node;

typedef struct Context Context;

typedef struct {
    void *(*init)(Context *, const char *, size_t);
    void (*free)(Context *, void *);
    int (*prepare)(Context *, Node *);
    int (*invoke)(Context *, Node *);
    const char *(*profiling_string)(const Context *, const Node *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *registration_external, *async_kernel;
    uint64_t inplace_operator;
} Registration;

typedef struct Delegate {
    void *data;
    int (*prepare)(Context *, struct Delegate *);
    void *copy_from, *copy_to, *free_handle;
    int64_t flags;
    void *opaque_delegate_builder;
} Delegate;

struct Context {
    size_t tensors_size;
    int (*get_execution_plan)(Context *, IntArray **);
    Tensor *tensors;
    void *impl, *resize_tensor;
    void (*report_error)(Context *, const char *, ...);
    void *add_tensors;
    int (*get_node_and_registration)(Context *, int, Node **, Registration **);
    int (*replace_nodes)(Context *, Registration, const IntArray *, Delegate *);
};

struct device {
    int type;
    const char *path;
};

static int is(const char *variant) {
    const char *wanted = getenv("FAKE_EDGETPU");
    return wanted != NULL && strcmp(wanted, variant) == 0;
}

static int kernel_prepare(Context *context, Node *node) {
    const Tensor *input = &context->tensors[node->inputs->data[0]], *output = &context->tensors[node->outputs->data[0]];
    if (is("mismatch")) {
        context->report_error(context, "Internal: Unsupported data type in custom op handler: %d", 24348008);
        return ERROR;
    }
    if (is("outdated")) {
        context->report_error(
            context, "Failed precondition: Package requires runtime version (14), which is newer than this runtime version (13).");
        return ERROR;
    }
    return input->bytes == output->bytes ? OK : ERROR;
}

static int kernel_invoke(Context *context, Node *node) {
    const Tensor *input = &context->tensors[node->inputs->data[0]], *output = &context->tensors[node->outputs->data[0]];
    for (size_t at = 0; at < input->bytes; at++)
        output->data[at] = (int8_t)-input->data[at];
    return OK;
}

static int delegate_prepare(Context *context, Delegate *delegate) {
    const Registration kernel = {
        .prepare = kernel_prepare, .invoke = kernel_invoke, .custom_name = "EdgeTpuDelegateForCustomOp", .version = 1};
    IntArray *plan, *one = malloc(sizeof(IntArray) + sizeof(int));
    if (is("segfault"))
        *(volatile int *)8 = 0;
    if (context->get_execution_plan(context, &plan) != OK)
        return ERROR;
    int size = plan->size, nodes[size];
    memcpy(nodes, plan->data, sizeof nodes); /* replacing nodes makes another plan */
    for (int at = 0; at < size; at++) {
        Node *node;
        Registration *registration;
        if (context->get_node_and_registration(context, nodes[at], &node, &registration) != OK)
            return ERROR;
        if (registration->custom_name != NULL && strcmp(registration->custom_name, "edgetpu-custom-op") == 0) {
            one->size = 1;
            one->data[0] = nodes[at];
            context->replace_nodes(context, kernel, one, delegate);
        }
    }
    free(one);
    return OK;
}

Delegate *tflite_plugin_create_delegate(char **names, char **values, size_t count, void (*report)(const char *)) {
    const char *path = getenv("FAKE_EDGETPU_OPTIONS");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    (void)report;
    for (size_t at = 0; file != NULL && at < count; at++)
        fprintf(file, "%s=%s\n", names[at], values[at]);
    if (file != NULL)
        fclose(file);
    while (is("hang"))
        pause();
    if (is("empty"))
        return NULL;
    Delegate *delegate = calloc(1, sizeof *delegate);
    delegate->prepare = delegate_prepare;
    delegate->flags = 1; /* kTfLiteDelegateFlagsAllowDynamicTensors */
    return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }

struct device *edgetpu_list_devices(size_t *count) {
    const char *paths = getenv("FAKE_EDGETPU_DEVICES");
    char *words = paths != NULL ? strdup(paths) : NULL;
    struct device *devices = calloc(100, sizeof *devices);
    *count = 0;
    for (char *path = words != NULL ? strtok(words, ":") : NULL; path != NULL && *count < 100; path = strtok(NULL, ":"))
        devices[(*count)++] = (struct device){.type = strncmp(path, "/sys", 4) == 0, .path = path};
    if (*count > 0)
        return devices;
    free(devices);
    return NULL;
}

void edgetpu_free_devices(struct device *devices) { free(devices); }

const char *edgetpu_version(void) { return "BuildLabel(fake), RuntimeVersion(14)"; }
