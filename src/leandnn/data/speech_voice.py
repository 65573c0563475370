"""A program that speaks: espeak-ng behind a pipe, `python -m leandnn.data.speech_voice`.

One JSON object a line comes in ({"voice", "text", "rate", "pitch"}); out goes the number of samples as four
bytes (little-endian) and then the samples (int16, native order, mono). The first answer, before any request,
is espeak's sampling rate and a line of JSON with its version.

It is a process of its own because the library keeps state between utterances that no call of its resets:
only a fresh process given the same requests in the same order speaks the same samples again.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

_RETRIEVAL, _NO_EXIT, _UTF8 = 1, 0x8000, 1  # AUDIO_OUTPUT_RETRIEVAL (synchronous is 2), INITIALIZE_DONT_EXIT
_SYNCHRONOUS = _RETRIEVAL + 1
_RATE, _PITCH = 1, 3  # espeak_PARAMETER: words per minute; 0 to 100
_SEED = 1


class Voice:
    """The espeak-ng library that the package espeakng-loader carries; one per process.

    Raises ModuleNotFoundError without that package, OSError where the library does not load or start.
    """

    def __init__(self) -> None:
        import espeakng_loader

        data = espeakng_loader.get_data_path()
        library = self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        library.espeak_Info.restype = ctypes.c_char_p
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        library.espeak_Synth.argtypes = [
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
            *(ctypes.c_void_p, ctypes.c_void_p),
        ]
        self.rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _NO_EXIT)
        if self.rate <= 0:
            raise OSError(f"espeak-ng did not start with its data in {data} (error {self.rate})")
        self.version = library.espeak_Info(None).decode()
        self.variants = {path.name for path in (Path(data) / "voices" / "!v").iterdir()}
        self._chunks: list[bytes] = []
        # The reference must live as long as the library may call it.
        self._callback = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )(self._take)
        library.espeak_SetSynthCallback(self._callback)
        library.espeak_ng_SetRandSeed(_SEED)

    def _take(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: int) -> int:
        if count > 0 and samples:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def say(self, voice: str, text: str, rate: int, pitch: int) -> bytes:
        """The text's samples (int16, native order). OSError for a voice or variant that espeak has not."""
        # espeak ignores a variant that it does not know; the plain voice would speak instead.
        _, _, variant = voice.partition("+")
        if variant and variant not in self.variants:
            raise OSError(f"espeak-ng {self.version} has no variant {variant!r}")
        if status := self._library.espeak_SetVoiceByName(voice.encode()):
            raise OSError(f"espeak-ng {self.version} has no voice {voice!r} (error {status})")
        self._library.espeak_SetParameter(_RATE, rate, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        self._chunks.clear()
        data = text.encode()
        if status := self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None):
            raise OSError(f"espeak-ng {self.version} could not speak {text!r} (error {status})")
        return b"".join(self._chunks)


def main() -> int:
    """Answer requests until the input ends; errors go to stderr in one line and end the program with 1."""
    out = sys.stdout.buffer
    try:
        voice = Voice()
        out.write(json.dumps({"rate": voice.rate, "version": voice.version}).encode() + b"\n")
        out.flush()
        for line in sys.stdin.buffer:
            samples = voice.say(**json.loads(line))
            out.write((len(samples) // 2).to_bytes(4, "little") + samples)
            out.flush()
    except (OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
