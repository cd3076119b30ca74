/* SPDX-License-Identifier: MIT */
#include "format/pickle_globals.h"

#include "format/format.h"

#include <stdlib.h>
#include <string.h>

struct meaning {
    const char *name;
    lt_meaning meaning;
    int detail;
    const char *text; /* of an unread tensor */
};

/* Sorted by name (strcmp). What torch's dtypes are called is added by code. */
static const struct meaning meanings[] = {
    { "_codecs.encode", LT_MEANS_DATA, 0, NULL },
    { "builtins.bool", LT_MEANS_DATA, 0, NULL },
    { "builtins.bytearray", LT_MEANS_DATA, 0, NULL },
    { "builtins.bytes", LT_MEANS_DATA, 0, NULL },
    { "builtins.complex", LT_MEANS_DATA, 0, NULL },
    { "builtins.dict", LT_MEANS_MAP, 0, NULL },
    { "builtins.float", LT_MEANS_DATA, 0, NULL },
    { "builtins.frozenset", LT_MEANS_SEQUENCE, 0, NULL },
    { "builtins.int", LT_MEANS_DATA, 0, NULL },
    { "builtins.list", LT_MEANS_SEQUENCE, 0, NULL },
    { "builtins.object", LT_MEANS_DATA, 0, NULL },
    { "builtins.range", LT_MEANS_DATA, 0, NULL },
    { "builtins.set", LT_MEANS_SEQUENCE, 0, NULL },
    { "builtins.slice", LT_MEANS_DATA, 0, NULL },
    { "builtins.str", LT_MEANS_DATA, 0, NULL },
    { "builtins.tuple", LT_MEANS_SEQUENCE, 0, NULL },
    { "collections.Counter", LT_MEANS_MAP, 0, NULL },
    { "collections.OrderedDict", LT_MEANS_MAP, 0, NULL },
    { "collections.defaultdict", LT_MEANS_MAP, 0, NULL },
    { "collections.deque", LT_MEANS_SEQUENCE, 0, NULL },
    { "copyreg._reconstructor", LT_MEANS_DATA, 0, NULL },
    { "datetime.date", LT_MEANS_DATA, 0, NULL },
    { "datetime.datetime", LT_MEANS_DATA, 0, NULL },
    { "datetime.timedelta", LT_MEANS_DATA, 0, NULL },
    { "numpy._core.multiarray._reconstruct", LT_MEANS_DATA, 0, NULL },
    { "numpy._core.multiarray.scalar", LT_MEANS_DATA, 0, NULL },
    { "numpy._core.numeric._frombuffer", LT_MEANS_DATA, 0, NULL },
    { "numpy.core.multiarray._reconstruct", LT_MEANS_DATA, 0, NULL },
    { "numpy.core.multiarray.scalar", LT_MEANS_DATA, 0, NULL },
    { "numpy.core.numeric._frombuffer", LT_MEANS_DATA, 0, NULL },
    { "numpy.dtype", LT_MEANS_DATA, 0, NULL },
    { "numpy.ndarray", LT_MEANS_DATA, 0, NULL },
    { "pathlib.Path", LT_MEANS_DATA, 0, NULL },
    { "pathlib.PosixPath", LT_MEANS_DATA, 0, NULL },
    { "pathlib.PurePosixPath", LT_MEANS_DATA, 0, NULL },
    { "pathlib.PureWindowsPath", LT_MEANS_DATA, 0, NULL },
    { "pathlib.WindowsPath", LT_MEANS_DATA, 0, NULL },
    { "torch.BFloat16Storage", LT_MEANS_STORAGE, LT_BF16, NULL },
    { "torch.BoolStorage", LT_MEANS_STORAGE, LT_BOOL, NULL },
    { "torch.ByteStorage", LT_MEANS_STORAGE, LT_U8, NULL },
    { "torch.CharStorage", LT_MEANS_STORAGE, LT_I8, NULL },
    { "torch.ComplexDoubleStorage", LT_MEANS_STORAGE, LT_C128, NULL },
    { "torch.ComplexFloatStorage", LT_MEANS_STORAGE, LT_C64, NULL },
    { "torch.ComplexHalfStorage", LT_MEANS_STORAGE, LT_C32, NULL },
    { "torch.DoubleStorage", LT_MEANS_STORAGE, LT_F64, NULL },
    { "torch.FloatStorage", LT_MEANS_STORAGE, LT_F32, NULL },
    { "torch.HalfStorage", LT_MEANS_STORAGE, LT_F16, NULL },
    { "torch.IntStorage", LT_MEANS_STORAGE, LT_I32, NULL },
    { "torch.LongStorage", LT_MEANS_STORAGE, LT_I64, NULL },
    { "torch.QInt32Storage", LT_MEANS_QUANTISED_STORAGE, LT_I32, NULL },
    { "torch.QInt8Storage", LT_MEANS_QUANTISED_STORAGE, LT_I8, NULL },
    { "torch.QUInt2x4Storage", LT_MEANS_QUANTISED_STORAGE, LT_U8, NULL },
    { "torch.QUInt4x2Storage", LT_MEANS_QUANTISED_STORAGE, LT_U8, NULL },
    { "torch.QUInt8Storage", LT_MEANS_QUANTISED_STORAGE, LT_U8, NULL },
    { "torch.ShortStorage", LT_MEANS_STORAGE, LT_I16, NULL },
    { "torch.Size", LT_MEANS_SEQUENCE, 0, NULL },
    { "torch.Tensor", LT_MEANS_DATA, 0, NULL },
    { "torch.UntypedStorage", LT_MEANS_UNTYPED_STORAGE, 0, NULL },
    { "torch._tensor._rebuild_from_type", LT_MEANS_FROM_TYPE, 0, NULL },
    { "torch._tensor._rebuild_from_type_v2", LT_MEANS_FROM_TYPE, 0, NULL },
    { "torch._utils._rebuild_device_tensor_from_cpu_tensor", LT_MEANS_UNREAD_TENSOR, 0,
        "a tensor of another device" },
    { "torch._utils._rebuild_device_tensor_from_numpy", LT_MEANS_UNREAD_TENSOR, 0,
        "a tensor of another device" },
    { "torch._utils._rebuild_meta_tensor_no_storage", LT_MEANS_UNREAD_TENSOR, 0,
        "a meta tensor, which has no data" },
    { "torch._utils._rebuild_nested_tensor", LT_MEANS_UNREAD_TENSOR, 0,
        "a nested tensor" },
    { "torch._utils._rebuild_parameter", LT_MEANS_PARAMETER, 0, NULL },
    { "torch._utils._rebuild_parameter_with_state", LT_MEANS_PARAMETER, 0, NULL },
    { "torch._utils._rebuild_qtensor", LT_MEANS_UNREAD_TENSOR, 0, "a quantised tensor" },
    { "torch._utils._rebuild_sparse_csr_tensor", LT_MEANS_UNREAD_TENSOR, 0,
        "a sparse tensor" },
    { "torch._utils._rebuild_sparse_tensor", LT_MEANS_UNREAD_TENSOR, 0,
        "a sparse tensor" },
    { "torch._utils._rebuild_tensor", LT_MEANS_TENSOR, 0, NULL },
    { "torch._utils._rebuild_tensor_v2", LT_MEANS_TENSOR_V2, 0, NULL },
    { "torch._utils._rebuild_tensor_v3", LT_MEANS_TENSOR_V3, 0, NULL },
    { "torch._utils._rebuild_wrapper_subclass", LT_MEANS_UNREAD_TENSOR, 0,
        "a tensor of a subclass" },
    { "torch._utils._rebuild_xla_tensor", LT_MEANS_UNREAD_TENSOR, 0,
        "a tensor of another device" },
    { "torch.device", LT_MEANS_DATA, 0, NULL },
    { "torch.nn.modules.container.ParameterDict", LT_MEANS_PARAMETERS, 0, NULL },
    { "torch.nn.modules.container.ParameterList", LT_MEANS_PARAMETERS, 0, NULL },
    { "torch.nn.parameter.Buffer", LT_MEANS_PARAMETER, 0, NULL },
    { "torch.nn.parameter.Parameter", LT_MEANS_PARAMETER, 0, NULL },
    { "torch.per_channel_affine", LT_MEANS_DATA, 0, NULL },
    { "torch.per_tensor_affine", LT_MEANS_DATA, 0, NULL },
    { "torch.serialization._get_layout", LT_MEANS_DATA, 0, NULL },
    { "torch.storage.TypedStorage", LT_MEANS_DATA, 0, NULL },
    { "torch.storage.UntypedStorage", LT_MEANS_UNTYPED_STORAGE, 0, NULL },
    { "torch.tensor._rebuild_from_type", LT_MEANS_FROM_TYPE, 0, NULL },
    { "types.GenericAlias", LT_MEANS_DATA, 0, NULL },
    { "types.SimpleNamespace", LT_MEANS_DATA, 0, NULL },
    { "uuid.SafeUUID", LT_MEANS_DATA, 0, NULL },
    { "uuid.UUID", LT_MEANS_DATA, 0, NULL },
};

/* Modules (with all that is in and below them) and single functions, after the lists of
 * picklescan, fickling and ModelScan. Whoever unpickles a mention of one may run
 * commands or code, load further code or pickles, touch files or open connections. */
static const char *const dangers[] = {
    /* running commands and code */
    "os", "posix", "nt", "subprocess", "commands", "popen2", "pty", "sys", "runpy",
    "code.interact", "code.compile_command", "code.InteractiveInterpreter",
    "code.InteractiveConsole", "codeop", "imp", "importlib", "_frozen_importlib",
    "_frozen_importlib_external", "pkgutil", "zipimport", "zipapp", "pip", "ensurepip",
    "venv", "setuptools", "distutils", "pydoc", "doctest", "timeit", "pdb", "bdb",
    "cProfile", "profile", "trace.Trace", "trace.main", "idlelib", "lib2to3", "ctypes",
    "_ctypes", "cffi", "_posixsubprocess", "asyncio", "multiprocessing",
    "concurrent.futures", "threading", "_thread", "signal", "_signal", "types", "_imp",
    "functools.partial", "functools.partialmethod", "functools.reduce", "operator",
    "_operator", "itertools.starmap", "logging.config", "logging.FileHandler",
    "logging.handlers", "logging.basicConfig", "syslog", "weakref.finalize", "atexit",
    "test", "unittest", "IPython", "platform", "uuid", "_osx_support", "_aix_support",
    "_pyrepl", "_winapi", "winreg", "msvcrt", "pexpect", "ptyprocess", "py_compile",
    "compileall", "modulefinder", "gc", "inspect", "site", "sysconfig", "sqlite3",
    "_sqlite3", "builtins.eval", "builtins.exec", "builtins.execfile", "builtins.compile",
    "builtins.getattr", "builtins.setattr", "builtins.delattr", "builtins.__import__",
    "builtins.open", "builtins.file", "builtins.input", "builtins.raw_input",
    "builtins.breakpoint", "builtins.globals", "builtins.locals", "builtins.vars",
    "builtins.apply", "builtins.reload", "builtins.map", "builtins.filter",
    "builtins.type.__subclasses__", "builtins.__dict__", "builtins.__loader__",
    "builtins.__spec__", "builtins.__build_class__", "builtins.hasattr", "builtins.help",
    "__builtins__", "six.moves", "future.builtins", "past.builtins",
    "__main__.__builtins__", "__main__.__loader__",
    /* loading further pickles and code */
    "pickle", "_pickle", "cPickle", "pickletools", "cloudpickle", "dill", "joblib",
    "marshal", "shelve", "jsonpickle", "yaml", "torch.load", "torch.hub", "torch.jit",
    "torch.package", "torch.serialization", "torch.storage._load_from_bytes",
    "torch.utils.cpp_extension", "torch.utils.bottleneck", "torch.utils.collect_env",
    "torch.utils._config_module", "torch.utils.model_zoo",
    "torch.utils.data.datapipes.utils.decoder", "torch.multiprocessing", "torch.compile",
    "torch.distributed.rpc", "torch.distributed.elastic", "torch.distributed.launch",
    "torch.distributed.run", "torch.ops.load_library", "torch.classes.load_library",
    "torch._dynamo", "torch._inductor", "torch.fx.graph_module.reduce_graph_module",
    "torch.fx.graph_module.reduce_package_graph_module",
    "torch.fx.graph_module._forward_from_src",
    "torch.fx.experimental.symbolic_shapes.ShapeEnv", "numpy.load", "numpy.loads",
    "numpy.testing", "numpy.f2py", "numpy.ctypeslib", "numpy.distutils",
    "numpy.lib.npyio", "numpy.lib.format", "pandas.read_pickle", "pandas.eval",
    "pandas.io", "tensorflow.io", "tensorflow.keras.models", "keras.models",
    /* files */
    "fileinput", "linecache", "filecmp", "difflib", "glob", "zipfile", "tarfile", "mmap",
    "io.open", "io.FileIO", "io.open_code", "_io.open", "_io.FileIO", "_io.open_code",
    "codecs.open", "shutil", "tempfile", "pathlib", "gzip.open", "bz2.open", "lzma.open",
    "numpy.save", "numpy.savez", "numpy.savetxt", "numpy.tofile", "numpy.fromfile",
    "numpy.memmap", "numpy.ndarray.tofile", "torch.save", "torch.from_file",
    /* connections */
    "socket", "_socket", "select", "selectors", "socketserver", "ssl", "http", "httplib",
    "httplib2", "urllib", "urllib2", "urllib3", "requests", "httpx", "aiohttp", "ftplib",
    "smtplib", "poplib", "imaplib", "nntplib", "telnetlib", "xmlrpc", "xmlrpclib",
    "webbrowser", "antigravity", "wsgiref", "boto3", "paramiko", "fsspec",
    "huggingface_hub"
};

static int by_name(const void *key, const void *row)
{
    return strcmp(key, ((const struct meaning *)row)->name);
}

static lt_meaning with_detail(lt_meaning meaning, int value, int *detail)
{
    if (detail) *detail = value;
    return meaning;
}

lt_meaning lt_global_meaning(const char *name, int *detail)
{
    static const char cuda[] = "torch.cuda.";
    char plain[64];
    lt_dtype dtype;
    /* Storages of old files are classes of their device. */
    size_t n = strlen(name);
    if (!strncmp(name, cuda, sizeof cuda - 1) && n < sizeof plain) {
        memcpy(plain, "torch.", 6);
        memcpy(plain + 6, name + sizeof cuda - 1, n - (sizeof cuda - 1) + 1);
        lt_meaning meaning = lt_global_meaning(plain, detail);
        return meaning == LT_MEANS_STORAGE ? meaning : LT_MEANS_NOTHING;
    }
    const struct meaning *row = bsearch(
        name, meanings, sizeof meanings / sizeof *meanings, sizeof *meanings, by_name);
    if (row && row->meaning == LT_MEANS_UNREAD_TENSOR)
        return with_detail(row->meaning, (int)(row - meanings), detail);
    if (row) return with_detail(row->meaning, row->detail, detail);
    if (!strncmp(name, "torch.", 6) && lt_dtype_by_torch(name + 6, &dtype))
        return with_detail(LT_MEANS_DTYPE, (int)dtype, detail);
    return LT_MEANS_NOTHING;
}

const char *lt_unread_text(int detail)
{
    return meanings[detail].text;
}

/* The name is a danger, or something in it. */
static bool is_danger(const char *name)
{
    for (size_t i = 0; i < sizeof dangers / sizeof *dangers; i++) {
        size_t n = strlen(dangers[i]);
        if (!strncmp(name, dangers[i], n) && (!name[n] || name[n] == '.')) return true;
    }
    return false;
}

lt_verdict lt_global_verdict(const char *name, size_t module_size)
{
    if (lt_global_meaning(name, NULL)) return LT_PLAIN;
    if (is_danger(name)) return LT_DANGEROUS;
    /* From protocol 4 on a name may go through attributes, and so through a module that
     * another one imports: "torch" "serialization.os.system". */
    for (const char *p = strchr(name + module_size + 1, '.'); p; p = strchr(p + 1, '.'))
        if (is_danger(p + 1)) return LT_DANGEROUS;
    return strchr(name + module_size + 1, '.') && is_danger(name + module_size + 1)
        ? LT_DANGEROUS
        : LT_UNKNOWN;
}

lt_status lt_note_global(
    void *store, lt_value *global, size_t module_size, uint64_t at, lt_error *err)
{
    const char *name = global->global.name;
    const lt_store *known = store;
    global->global.meaning = (int)lt_global_meaning(name, &global->global.detail);
    /* The verdict on a name that was mentioned before is there, unless it goes through
     * attributes: then it may be the same name, but divided in another place. */
    bool judged = lt_map_get(&known->global_by_name, name) != LT_MAP_NONE
        && !strchr(name + module_size + 1, '.');
    lt_verdict verdict = judged ? LT_UNKNOWN : lt_global_verdict(name, module_size);
    return lt_store_add_global(store, name, verdict, at, err);
}
