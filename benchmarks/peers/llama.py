"""llama.cpp for this machine: its server built from source, and GGUF files made with its own converters."""

from __future__ import annotations

import tarfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks.peers.environment import Environment, Say
from registry.errors import NotFound, Unavailable
from serving.source import WHEELS

SDIST = "llama-cpp-python==0.3.36"
"""The release whose source holds llama.cpp's."""
ENVIRONMENT = Environment(
    "llama", ("cmake", "ninja", "torch", "transformers", "gguf", "safetensors", "sentencepiece", "protobuf")
)
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
)


SOURCE = ENVIRONMENT.root / "source" / "vendor" / "llama.cpp"
BUILD = ENVIRONMENT.root / "build"


def build(say: Say) -> Path:
    """llama-server, compiled for this processor, once."""
    ENVIRONMENT.make(say)
    unpacked, built = f"unpack {SDIST}", f"build {SDIST} {OPTIONS}"
    if not ENVIRONMENT.is_done(unpacked):
        say(f"fetching the source of {SDIST}")
        folder = ENVIRONMENT.root / "sdist"
        package = SDIST.partition("==")[0]
        ENVIRONMENT.pip("download", "--no-binary", package, "--no-deps", "--dest", str(folder), SDIST)
        _unpack(folder, ENVIRONMENT.root / "source")
        ENVIRONMENT.mark(unpacked)
    if not ENVIRONMENT.is_done(built):
        say("building llama-server (once; about five minutes on two cores)")
        cmake, ninja = (str(ENVIRONMENT.root / "bin" / tool) for tool in ("cmake", "ninja"))
        configure = [cmake, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-S", str(SOURCE), "-B", str(BUILD)]
        ENVIRONMENT.run([*configure, *OPTIONS], "configuring (is there a C++ compiler?)")
        compile_it = ["nice", "-n", "19", cmake, "--build", str(BUILD), "--target", "llama-server", "-j", "2"]
        ENVIRONMENT.run(compile_it, "compiling llama-server")
        ENVIRONMENT.mark(built)
    return BUILD / "bin" / "llama-server"


def _unpack(folder: Path, target: Path) -> None:
    """The sdist, without its outermost folder."""
    archives = sorted(folder.glob("*.tar.gz"))
    if not archives:
        raise Unavailable(f"llama: pip left no source in {folder}", hint=f"put the .tar.gz of {SDIST} there")
    with tarfile.open(archives[-1]) as archive:
        for member in archive.getmembers():
            _, _, inner = member.name.partition("/")
            if inner:
                archive.extract(member.replace(name=inner, deep=False), target, filter="data")


def convert_base(base: Path, work: Path, say: Say) -> Path:
    return _convert("convert_hf_to_gguf.py", base, work / "base-bf16.gguf", [], say)


def convert_adapter(adapter: Path, base: Path, work: Path, say: Say) -> Path:
    return _convert("convert_lora_to_gguf.py", adapter, work / f"{adapter.name}.gguf", ["--base", str(base)], say)


def _convert(script: str, source: Path, target: Path, options: list[str], say: Say) -> Path:
    """A GGUF in bf16, made once."""
    if not target.exists():
        say(f"converting {source.name} to GGUF")
        scratch = target.with_suffix(".part")
        arguments = [*options, "--outtype", "bf16", "--outfile", str(scratch), str(source)]
        ENVIRONMENT.run([str(ENVIRONMENT.python), str(SOURCE / script), *arguments], f"converting {source.name}")
        scratch.rename(target)
    return target


def quantised() -> Path:
    """The GGUF inside the wheel that the base comes from."""
    package, file, _ = WHEELS["smollm2-135m"]
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NotFound(f"the wheel {package} is not installed", hint="make demo installs it")
    return Path(next(iter(spec.submodule_search_locations))) / file
