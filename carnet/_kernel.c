/* The fast twin of the content-defined cutter in carnet/chunking.py: equal cuts, no policy.
 *
 * Rules:  1. every cut equals the Python twin's (a property test compares)  2. nothing is allocated and no Python object is
 *         touched while the GIL is released  3. never writes past the `ends` buffer: a full buffer ends the scan
 * Spec:   docs/formats.md section "Chunking"
 *
 * A cut is tested after each byte beyond the minimum: h = 2h + gear[byte] mod 2^64, cut when the top bits of h are zero, which
 * is h < limit. Two bytes are stepped over at a time: with a second table of doubled entries the next h is one shift and one
 * add from this one (compilers undo the trick when the doubling is written out), and the branches are almost never taken.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define GEAR_ENTRIES 256

typedef struct {
    size_t minimum;
    size_t average;
    size_t maximum;
    uint64_t limit_small; /* before the average: a cut is rare */
    uint64_t limit_large; /* after it: a cut is likely */
} Sizes;

typedef struct {
    uint64_t once[GEAR_ENTRIES];
    uint64_t twice[GEAR_ENTRIES];
} Gear;

/* Scan data[from..to): return the offset after the first byte whose hash is below limit, or 0. *hash goes in and out. */
static size_t
scan(const uint8_t *data, size_t from, size_t to, uint64_t *hash, const Gear *gear, uint64_t limit)
{
    uint64_t h = *hash;
    size_t i = from;

    while (to - i >= 4) {
        const uint64_t h0 = 2 * h + gear->once[data[i]];
        const uint64_t h1 = 4 * h + (gear->twice[data[i]] + gear->once[data[i + 1]]);
        const uint64_t h2 = 2 * h1 + gear->once[data[i + 2]];
        const uint64_t h3 = 4 * h1 + (gear->twice[data[i + 2]] + gear->once[data[i + 3]]);
        if (h0 < limit) {
            return i + 1;
        }
        if (h1 < limit) {
            return i + 2;
        }
        if (h2 < limit) {
            return i + 3;
        }
        if (h3 < limit) {
            return i + 4;
        }
        h = h3;
        i += 4;
    }
    for (; i < to; i++) {
        h = 2 * h + gear->once[data[i]];
        if (h < limit) {
            return i + 1;
        }
    }
    *hash = h;
    return 0;
}

/* Return the length of the first chunk of data[0..available), or 0 when it needs bytes that are not there. */
static size_t
first_chunk(const uint8_t *data, size_t available, int final, const Gear *gear, const Sizes *sizes)
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
cut_all(const Py_buffer *data, const Py_buffer *ends, int final, const Gear *gear, const Sizes *sizes)
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
    Gear gear;
    size_t count;
    PyObject *result = NULL;

    if (!PyArg_ParseTuple(args, "y*y*w*nnniip:cut", &data, &table, &ends, &minimum, &average, &maximum, &bits_small, &bits_large,
                          &final)) {
        return NULL;
    }
    if (table.len != (Py_ssize_t)sizeof gear.once || minimum < 1 || average <= minimum || maximum <= average || bits_small < 1 ||
        bits_small > 63 || bits_large < 1 || bits_large > 63) {
        PyErr_SetString(PyExc_ValueError, "impossible gear table or chunk sizes");
    } else {
        const Sizes sizes = {(size_t)minimum, (size_t)average, (size_t)maximum, UINT64_C(1) << (64 - bits_small),
                             UINT64_C(1) << (64 - bits_large)};
        memcpy(gear.once, table.buf, sizeof gear.once);
        for (size_t i = 0; i < GEAR_ENTRIES; i++) {
            gear.twice[i] = 2 * gear.once[i];
        }
        Py_BEGIN_ALLOW_THREADS
        count = cut_all(&data, &ends, final, &gear, &sizes);
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
