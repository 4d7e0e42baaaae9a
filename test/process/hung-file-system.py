"""hung-file-system.py DIRECTORY COMMAND [ARGUMENT...]

Runs COMMAND while DIRECTORY is a file system that is mounted and never answers, as NFS without its server: a real one, of FUSE,
whose server takes the first message and no other. To be run as root in a mount namespace of its own.
"""

import ctypes
import os
import signal
import struct
import sys

PR_SET_PDEATHSIG = 1
FUSE_VERSION = (7, 31)

libc = ctypes.CDLL(None, use_errno=True)
directory, command = sys.argv[1], sys.argv[2:]
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other"
if libc.mount(b"hung", directory.encode(), b"fuse", 0, options.encode()) != 0:
    sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")

if os.fork() == 0:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for descriptor in range(3):
        os.close(descriptor)
    # FUSE_INIT: struct fuse_in_header has 40 bytes, the request's number is at 8 (linux/fuse.h).
    request = os.read(fuse, 1 << 17)
    (unique,) = struct.unpack_from("Q", request, 8)
    answer = struct.pack("IIIIHHIIHHI7I", *FUSE_VERSION, 0, 0, 12, 9, 4096, 1, 0, 0, 0, *([0] * 7))
    os.write(fuse, struct.pack("IiQ", 16 + len(answer), 0, unique) + answer)
    while True:
        signal.pause()

os.close(fuse)
os.execvp(command[0], command)
