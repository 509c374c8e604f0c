/* The fast twin of the content-defined cutter in carnet/chunking.py: equal cuts, no policy.
 *
 * Rules:  1. every cut equals the Python twin's (a property test compares)  2. nothing is allocated and no Python object is
 *         touched while the GIL is released  3. never writes past the `ends` buffer: a full buffer ends the scan
 * Spec:   docs/formats.md section "Chunking"
 *
 * A cut is tested after each byte beyond the minimum: h = 2h + gear[byte] mod 2^64, cut when the top bits of h are zero, which
 * is h < limit. What bounds the speed is the number of instructions a byte, not the chain of h from one byte to the next: a
 * second table that lets two bytes be taken in one step makes the chain shorter and the loop slower.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define GEAR_ENTRIES 256
#if defined(__GNUC__)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#else
#define UNLIKELY(condition) (condition)
#endif

typedef struct {
    size_t minimum;
    size_t average;
    size_t maximum;
    uint64_t limit_small; /* before the average: a cut is rare */
    uint64_t limit_large; /* after it: a cut is likely */
} Sizes;

/* Scan data[from..to): return the offset after the first byte whose hash is below limit, or 0. *hash goes in and out. */
static size_t
scan(const uint8_t *data, size_t from, size_t to, uint64_t *hash, const uint64_t *gear, uint64_t limit)
{
    uint64_t h = *hash;
    size_t i = from;

    for (; to - i >= 4; i += 4) {
        h = 2 * h + gear[data[i]];
        if (UNLIKELY(h < limit)) {
            return i + 1;
        }
        h = 2 * h + gear[data[i + 1]];
        if (UNLIKELY(h < limit)) {
            return i + 2;
        }
        h = 2 * h + gear[data[i + 2]];
        if (UNLIKELY(h < limit)) {
            return i + 3;
        }
        h = 2 * h + gear[data[i + 3]];
        if (UNLIKELY(h < limit)) {
            return i + 4;
        }
    }
    for (; i < to; i++) {
        h = 2 * h + gear[data[i]];
        if (h < limit) {
            return i + 1;
        }
    }
    *hash = h;
    return 0;
}

/* Return the length of the first chunk of data[0..available), or 0 when it needs bytes that are not there. */
static size_t
first_chunk(const uint8_t *data, size_t available, int final, const uint64_t *gear, const Sizes *sizes)
{
    const size_t end = available < sizes->maximum ? available : sizes->maximum;
    uint64_t hash = 0;
    size_t found = 0;

    if (end > sizes->minimum) {
        const size_t middle = end < sizes->average ? end : sizes->average;
        found = scan(data, sizes->minimum, middle, &hash, gear, sizes->limit_small);
        if (found == 0 && end > middle) {
            found = scan(data, middle, end, &hash, gear, sizes->limit_large);
        }
    }
    if (found == 0 && (final || available >= sizes->maximum)) {
        found = end;
    }
    return found;
}

static size_t
cut_all(const Py_buffer *data, const Py_buffer *ends, int final, const uint64_t *gear, const Sizes *sizes)
{
    const uint8_t *bytes = data->buf;
    const size_t length = (size_t)data->len;
    const size_t room = (size_t)ends->len / sizeof(uint64_t);
    uint8_t *out = ends->buf;
    size_t count = 0;
    size_t start = 0;

    while (start < length && count < room) {
        const size_t size = first_chunk(bytes + start, length - start, final, gear, sizes);
        if (size == 0) {
            break;
        }
        start += size;
        const uint64_t end = start;
        memcpy(out + count * sizeof end, &end, sizeof end); /* the buffer need not be aligned */
        count++;
    }
    return count;
}

static PyObject *
kernel_cut(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer data, table, ends;
    Py_ssize_t minimum, average, maximum;
    int bits_small, bits_large, final;
    uint64_t gear[GEAR_ENTRIES];
    size_t count;
    PyObject *result = NULL;

    if (!PyArg_ParseTuple(args, "y*y*w*nnniip:cut", &data, &table, &ends, &minimum, &average, &maximum, &bits_small, &bits_large,
                          &final)) {
        return NULL;
    }
    if (table.len != (Py_ssize_t)sizeof gear || minimum < 1 || average <= minimum || maximum <= average || bits_small < 1 ||
        bits_small > 63 || bits_large < 1 || bits_large > 63) {
        PyErr_SetString(PyExc_ValueError, "impossible gear table or chunk sizes");
    } else {
        const Sizes sizes = {(size_t)minimum, (size_t)average, (size_t)maximum, UINT64_C(1) << (64 - bits_small),
                             UINT64_C(1) << (64 - bits_large)};
        memcpy(gear, table.buf, sizeof gear);
        Py_BEGIN_ALLOW_THREADS
        count = cut_all(&data, &ends, final, gear, &sizes);
        Py_END_ALLOW_THREADS
        result = PyLong_FromSize_t(count);
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&table);
    PyBuffer_Release(&ends);
    return result;
}

PyDoc_STRVAR(cut_doc, "cut(data, gear, ends, minimum, average, maximum, bits_small, bits_large, final) -> count\n\n"
                      "Write the end offsets of the complete chunks of `data` into `ends` (native u64) and return how many.\n"
                      "`gear` is 256 native u64. Stops early when `ends` is full.");

static PyMethodDef methods[] = {
    {"cut", kernel_cut, METH_VARARGS, cut_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "carnet._kernel",
    .m_doc = "The C twin of carnet.chunking's cutter.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__kernel(void)
{
    return PyModuleDef_Init(&definition);
}
