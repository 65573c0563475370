"""Code that a child process begins with, so that permission bits bind it although it is root."""

OBEYED = """
import ctypes, os

if os.getuid() == 0:  # root ignores permission bits by two capabilities, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # of programs that are started, too
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0, os.strerror(ctypes.get_errno())
    for word in (0, 1):  # effective, permitted
        sets[word] &= ~0b110 & 0xFFFFFFFF
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
"""
