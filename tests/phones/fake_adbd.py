#!/usr/bin/env python3
"""Device side of the Android Debug Bridge, for testing `adb` workflows without a phone.

The real `adb` client (Debian package `adb`) connects to it over TCP; Python >= 3.9, standard library only.
Every device is a directory: what a command sees as /data/local/tmp is ROOT/data/local/tmp, in a mount
namespace and a process namespace of that device's own. `adb shell ps` shows that device's processes only,
and when the daemon ends, all that was started on its devices ends with it.

    python3 fake_adbd.py 6001:/tmp/phone1 6003:/tmp/phone2 &      # PORT:ROOT; port 0 = the kernel's choice
    # prints, for each device and once it accepts:  ready 127.0.0.1:6001 /tmp/phone1
    adb connect 127.0.0.1:6001 && adb connect 127.0.0.1:6003
    adb -s 127.0.0.1:6001 push bidmesh /data/local/tmp/
    adb -s 127.0.0.1:6001 shell 'cd /data/local/tmp && ./bidmesh --version'; echo $?     # exit codes pass
    adb -s 127.0.0.1:6001 forward tcp:0 tcp:5000                  # prints a port of the host's
    adb -s 127.0.0.1:6001 reboot                                  # kills every process of it, keeps its files
    kill %1                                                       # devices and their processes are gone

Two kinds of device:
  default   the host's userland, with each top-level entry of ROOT (data, system, sdcard, ...) laid over it;
            the shell is /system/bin/sh if ROOT has one, else the host's /bin/sh. Put scripts such as getprop
            or dumpsys into ROOT/system/bin: it is in PATH.
  --chroot  ROOT is the whole userland and must hold /system/bin/sh (say Debian's arm64 mksh and toybox).
--qemu FILE runs aarch64 programs through FILE (a static qemu-aarch64) by a binfmt_misc of the device's own
user namespace (Linux >= 6.7), which leaves the machine's setting alone and needs no root.

Keep off the odd ports 5555-5585: the adb server takes a listener there for an emulator and lists it twice.
A device can be in trouble. Files in ROOT/faults, which its commands do not see, say how; they are read when it
matters, so that they can come and go:
  unauthorized  a new connection is never let in, as if nobody confirmed the key on the screen
  full N        pushes find no room after N bytes (in all, counted by the daemon)
  vanish N      the daemon ends in the middle of a push after N bytes, and removes the file

All devices share the network of the daemon: start it inside a network namespace for a device with its own.
Spoken: CNXN without AUTH, shell (v1, v2, pty), exec, sync (push, pull, ls), tcp (forward), root, reboot.
Not spoken (the client prints "closed"): reverse, install, sideload, jdwp, TLS. Every connection is trusted
and runs commands as the daemon's user: it listens on loopback unless --bind says otherwise.
"""
import argparse, ctypes, encodings.idna, errno, fcntl, os, pty, queue, signal, socket, stat, struct, subprocess, sys
import tempfile, termios, threading

CNXN, OPEN, OKAY, CLSE, WRTE, AUTH = (int.from_bytes(c, "little")
                                      for c in (b"CNXN", b"OPEN", b"OKAY", b"CLSE", b"WRTE", b"AUTH"))
AUTH_TOKEN, AUTH_SIGNATURE = 1, 2
VERSION, MAX_PAYLOAD, SYNC_MAX, REBOOT = 0x01000001, 256 * 1024, 64 * 1024, 42
FEATURES = "shell_v2,stat_v2,fixed_push_mkdir,fixed_push_symlink_timestamp"
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN, WINDOW_SIZE = range(6)  # packet ids of the shell,v2 protocol
NEWNS, NEWUSER, NEWPID, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 0x20000000, 4096, 16384, 1 << 18
libc = ctypes.CDLL(None, use_errno=True)


class Stream:
    """One OPENed stream: bytes in through a queue, bytes out one WRTE at a time, each awaiting its OKAY."""

    def __init__(self, conn, lid, rid):
        self.conn, self.lid, self.rid, self.closed = conn, lid, rid, False
        self.inbox, self.acks, self.buffer = queue.Queue(), threading.Semaphore(0), b""
        self.lock = threading.Lock()

    def chunk(self):
        """The next bytes from the client, b"" once it has closed."""
        data = self.inbox.get()
        if data is None:
            self.inbox.put(None)
            return b""
        self.conn.send(OKAY, self.lid, self.rid)  # only now: what we have not read stays with the client
        return data

    def read(self, n):
        while len(self.buffer) < n:
            more = self.chunk()
            if not more:
                return b""
            self.buffer += more
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def write(self, data):
        """False once the client has closed the stream."""
        with self.lock:
            for i in range(0, len(data), self.conn.max_payload):
                if self.closed:
                    return False
                self.conn.send(WRTE, self.lid, self.rid, data[i:i + self.conn.max_payload])
                self.acks.acquire()
            return not self.closed

    def close(self):
        if self.conn.streams.pop(self.lid, None):
            self.conn.send(CLSE, self.lid, self.rid)
        self.gone()

    def gone(self):
        self.closed = True
        self.inbox.put(None)
        self.acks.release()


class Connection:
    def __init__(self, sock, device):
        self.sock, self.file, self.device, self.streams, self.next_id = sock, sock.makefile("rb"), device, {}, 1
        self.lock, self.max_payload = threading.Lock(), 4096

    def send(self, command, arg0, arg1, data=b""):
        try:
            with self.lock:
                self.sock.sendall(struct.pack("<6I", command, arg0, arg1, len(data), sum(data) & 0xFFFFFFFF,
                                              command ^ 0xFFFFFFFF) + data)
        except OSError:
            pass  # the reading side notices and closes every stream

    def serve(self):
        try:
            while len(header := self.file.read(24)) == 24:
                command, arg0, arg1, length, _, magic = struct.unpack("<6I", header)
                if magic != command ^ 0xFFFFFFFF or length > 1 << 20:
                    break
                self.dispatch(command, arg0, arg1, self.file.read(length))
        except OSError:
            pass
        for stream in list(self.streams.values()):
            stream.gone()
        self.sock.close()

    def dispatch(self, command, arg0, arg1, data):
        stream = self.streams.get(arg1)
        if command in (CNXN, AUTH) and self.device.fault("unauthorized") is not None:
            if command == CNXN or arg0 == AUTH_SIGNATURE:
                self.send(AUTH, AUTH_TOKEN, 0, b"\x2a" * 20)  # to the public key nobody answers
        elif command == CNXN:
            self.max_payload = min(arg1, MAX_PAYLOAD)
            self.send(CNXN, VERSION, MAX_PAYLOAD, self.device.banner)
        elif command == OPEN:
            stream = Stream(self, self.next_id, arg0)
            self.streams[self.next_id], self.next_id = stream, self.next_id + 1
            threading.Thread(target=service, args=(stream, data.rstrip(b"\0"), self.device), daemon=True).start()
        elif command == WRTE and stream:
            stream.inbox.put(data)
        elif command == OKAY and stream:
            stream.acks.release()
        elif command == CLSE and stream:
            self.streams.pop(arg1, None)
            stream.gone()


def service(stream, name, device):
    kind, _, rest = name.partition(b":")
    args, rest = kind.decode().split(","), os.fsdecode(rest)
    accept = lambda: stream.conn.send(OKAY, stream.lid, stream.rid)
    try:
        if args[0] in ("shell", "exec"):
            accept()
            shell(stream, args, rest, device)
        elif args[0] == "sync":
            accept()
            sync(stream, device)
        elif args[0] == "tcp":
            with socket.create_connection(("127.0.0.1", int(rest.partition(":")[0]))) as peer:
                accept()
                threading.Thread(target=copy_in, args=(stream, peer), daemon=True).start()
                while (data := peer.recv(MAX_PAYLOAD)) and stream.write(data):
                    pass
        elif args[0] == "root":
            accept()
            stream.write(b"adbd is already running as root\n")
        elif args[0] == "reboot":
            accept()
            stream.close()
            os._exit(REBOOT)
    except (OSError, ValueError, struct.error) as error:
        print("fake_adbd: %s: %s" % (os.fsdecode(name), error), file=sys.stderr, flush=True)
    stream.close()


def copy_in(stream, peer):
    try:
        while data := stream.chunk():
            peer.sendall(data)
        peer.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def shell(stream, args, command, device):
    v2 = "v2" in args
    frame = lambda packet, data: struct.pack("<BI", packet, len(data)) + data if v2 else data
    argv, pipe, terminal = [device.shell] + (["-c", command] if command else ["-"]), subprocess.PIPE, None
    options = dict(env=dict(device.env, TERM=next((a[5:] for a in args if a.startswith("TERM=")), "dumb")),
                   cwd="/", start_new_session=True)
    if "pty" in args or not command and "raw" not in args and args[0] == "shell":
        terminal, slave = pty.openpty()
        child = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, **options,
                                 preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        outputs = [(terminal, STDOUT)]
    else:
        child = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe if v2 else subprocess.STDOUT, **options)
        outputs = [(child.stdout.fileno(), STDOUT)] + ([(child.stderr.fileno(), STDERR)] if v2 else [])

    def pump(fd, packet):
        try:  # like adbd: a background process that keeps stdout open keeps `adb shell` waiting
            while (data := os.read(fd, 32 * 1024)) and stream.write(frame(packet, data)):
                pass
        except OSError:
            pass  # EIO: the last user of the terminal is gone

    def handle(packet, data):
        if packet == STDIN and not (child.stdin and child.stdin.closed):
            while data:
                data = data[os.write(child.stdin.fileno() if child.stdin else terminal, data):]
        elif packet == CLOSE_STDIN and child.stdin:
            child.stdin.close()
        elif packet == WINDOW_SIZE and terminal is not None:
            rows, cols = data.split(b",")[0].split(b"x")
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", int(rows), int(cols), 0, 0))

    def feed():
        while header := stream.read(5) if v2 else stream.chunk():
            packet, length = struct.unpack("<BI", header) if v2 else (STDIN, 0)
            try:
                handle(packet, stream.read(length) if v2 else header)
            except (OSError, ValueError):
                pass  # the child closed its stdin: go on reading, or the client is held up
        if child.poll() is None:
            child.send_signal(signal.SIGHUP)  # the client went away; like adbd, tell the shell and nobody else

    pumps = [threading.Thread(target=pump, args=o, daemon=True) for o in outputs]
    for t in pumps + [threading.Thread(target=feed, daemon=True)]:
        t.start()
    for t in pumps:
        t.join()
    code = child.wait()
    if v2:
        stream.write(frame(EXIT, bytes([code if code >= 0 else 128 - code])))
    for file in filter(None, (child.stdout, child.stderr)):
        file.close()
    if terminal is not None:
        os.close(terminal)


def sync(s, device):
    while len(header := s.read(8)) == 8:
        request, length = struct.unpack("<4sI", header)
        if request == b"QUIT" or length > 4096:
            return
        path = os.fsdecode(s.read(length))
        try:
            if request == b"STAT":
                st = os.lstat(path)
                s.write(struct.pack("<4sIII", request, st.st_mode, st.st_size & 0xFFFFFFFF, int(st.st_mtime)))
            elif request in (b"STA2", b"LST2"):
                st = (os.stat if request == b"STA2" else os.lstat)(path)
                s.write(struct.pack("<4sIQQIIIIQqqq", request, 0, st.st_dev, st.st_ino, st.st_mode, st.st_nlink, st.st_uid,
                                    st.st_gid, st.st_size, int(st.st_atime), int(st.st_mtime), int(st.st_ctime)))
            elif request == b"LIST":
                for name in [".", ".."] + os.listdir(path):
                    st, name = os.lstat(os.path.join(path, name)), os.fsencode(name)
                    s.write(struct.pack("<4s4I", b"DENT", st.st_mode, st.st_size & 0xFFFFFFFF, int(st.st_mtime), len(name)) + name)
                s.write(struct.pack("<4s16x", b"DONE"))
            elif request == b"RECV":
                with open(path, "rb") as file:
                    while data := file.read(SYNC_MAX):
                        s.write(struct.pack("<4sI", b"DATA", len(data)) + data)
                s.write(struct.pack("<4sI", b"DONE", 0))
            elif request == b"SEND":
                receive_file(s, path, device)
                s.write(struct.pack("<4sI", b"OKAY", 0))
            else:
                raise OSError(38, "unknown sync request")
        except OSError as error:
            text = os.fsencode(error.strerror)
            s.write({b"STAT": struct.pack("<4s12x", request), b"LIST": struct.pack("<4s16x", b"DONE"),
                     b"STA2": struct.pack("<4sI64x", request, error.errno), b"LST2": struct.pack("<4sI64x", request, error.errno),
                     }.get(request, struct.pack("<4sI", b"FAIL", len(text)) + text))


def receive_file(s, spec, device):
    path, _, mode = spec.rpartition(",")
    mode, out, target, failure = int(mode), None, b"", None
    try:
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
        if os.path.islink(path) or os.path.isfile(path):
            os.unlink(path)  # as adbd does: a running program can be replaced
        out = None if stat.S_ISLNK(mode) else open(path, "wb")
    except OSError as error:
        failure = OSError(error.errno, "couldn't create file: " + error.strerror)
    while True:
        tag, value = struct.unpack("<4sI", s.read(8))
        if tag != b"DATA":
            break  # DONE: value is the modification time
        data = s.read(value)  # to its end even after a failure: the client answers to FAIL only then
        try:
            target += data if not out and not failure else b""
            out and not failure and out.write(device.received(data))
        except OSError as error:
            failure = OSError(error.errno, "write failed: " + error.strerror)
    if failure:
        raise failure
    if not out:
        return os.symlink(target.rstrip(b"\0"), path)
    out.close()
    mode |= mode >> 3 & 0o070  # as adbd does: what the owner may, everybody may
    mode |= mode >> 3 & 0o007
    os.chmod(path, mode & 0o777)
    os.utime(path, (value, value))


class Device:
    """ROOT and, in the process that calls enter(), the namespaces in which its commands run."""

    def __init__(self, root, options):
        self.root, self.chroot, self.qemu = os.path.realpath(root), options.chroot, options.qemu
        self.mountpoint = tempfile.mkdtemp(prefix="fake_adbd.")
        self.banner = ("device::ro.product.name=%s;ro.product.model=%s;ro.product.device=%s;features=%s"
                       % ((os.path.basename(self.root),) * 3 + (FEATURES,))).encode()
        os.makedirs(os.path.join(self.root, "data/local/tmp"), exist_ok=True)
        os.makedirs(os.path.join(self.root, "faults"), exist_ok=True)
        # Open: after enter() it has no path any more.
        self.faults, self.pushed = os.open(os.path.join(self.root, "faults"), os.O_RDONLY), 0

    def fault(self, name):
        """The number in a fault's file, 0 without one; None if it is not there."""
        try:
            with open(os.open(name, os.O_RDONLY, dir_fd=self.faults)) as file:
                return int(file.read() or 0)
        except OSError:
            return None

    def received(self, data):
        """data, unless a fault strikes before its end."""
        self.pushed += len(data)
        if (limit := self.fault("vanish")) is not None and self.pushed > limit:
            os.unlink("vanish", dir_fd=self.faults)
            os._exit(1)
        if (limit := self.fault("full")) is not None and self.pushed > limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return data

    def mount(self, source, at, kind=None, flags=0, must=True):
        args = [a if a is None else os.fsencode(a) for a in (source, at, kind)]
        if libc.mount(*args, ctypes.c_ulong(flags), None) and must:
            raise OSError(ctypes.get_errno(), "mount %s: %s" % (at, os.strerror(ctypes.get_errno())))

    def unshare(self):
        user = bool(self.qemu) or os.geteuid() != 0
        uid, gid = os.geteuid(), os.getegid()
        if libc.unshare(NEWNS | NEWPID | (NEWUSER if user else 0)):
            raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))
        for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % gid)) if user else ():
            with open("/proc/self/" + name, "w") as f:
                f.write(text)

    def enter(self):
        new = self.mountpoint
        self.mount(None, "/", None, MS_REC | MS_PRIVATE)
        self.mount("proc", "/proc", "proc", must=False)
        if self.qemu:
            self.mount("binfmt_misc", "/proc/sys/fs/binfmt_misc", "binfmt_misc")
            with open("/proc/sys/fs/binfmt_misc/register", "w") as f:
                f.write(r":aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
                        r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:%s:FP"
                        % os.path.realpath(self.qemu))
        if self.chroot:
            self.mount(self.root, new, None, MS_BIND | MS_REC)
        else:
            self.mount("tmpfs", new, "tmpfs")
        names = dict.fromkeys(["proc", "sys", "dev"] if self.chroot else os.listdir("/"), "/")
        names.update({} if self.chroot else dict.fromkeys(os.listdir(self.root), self.root))
        names.pop("faults", None)
        for name, base in names.items():
            source, at = os.path.join(base, name), os.path.join(new, name)
            if os.path.islink(source) and not self.chroot:
                os.symlink(os.readlink(source), at)
            elif os.path.isdir(source):
                os.makedirs(at, exist_ok=True)
                self.mount(source, at, None, MS_BIND | MS_REC)
        os.chroot(new)
        os.chdir("/")
        self.shell = next(s for s in ("/system/bin/sh", "/bin/sh") if os.path.exists(s))
        self.env = {"PATH": "/system/bin:/system/xbin:/vendor/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/",
                    "TMPDIR": "/data/local/tmp", "SHELL": "/bin/sh", "USER": "shell", "LOGNAME": "shell",
                    "ANDROID_ROOT": "/system", "ANDROID_DATA": "/data", "ANDROID_STORAGE": "/storage"}


def accept_loop(listener, device):
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Connection(sock, device).serve, daemon=True).start()


def boot(listener, device):
    """Forks until the device stands: keeper (in the host's process namespace) > init (its pid 1) > daemon."""
    die_with_parent = lambda: libc.prctl(1, signal.SIGKILL)
    if keeper := os.fork():
        return keeper
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    device.unshare()
    die_with_parent()  # after unshare: a change of credentials clears it
    if not (init := os.fork()):
        die_with_parent()
        if daemon := os.fork():
            while True:  # reaps orphans; its end takes every process of the device along
                pid, status = os.wait()
                if pid == daemon:
                    os._exit(os.waitstatus_to_exitcode(status) & 255)
        device.enter()
        os.write(1, ("ready %s:%d %s\n" % (listener.getsockname()[:2] + (device.root,))).encode())  # one write: lines stay whole
        accept_loop(listener, device)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]) & 255)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("devices", nargs="+", metavar="PORT:ROOT")
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--chroot", action="store_true")
    parser.add_argument("--qemu", metavar="FILE")
    options = parser.parse_args()
    running = {}
    for spec in options.devices:
        port, _, root = spec.partition(":")
        listener = socket.create_server((options.bind, int(port)))
        device = Device(root, options)
        running[boot(listener, device)] = (listener, device)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while running:
            pid, status = os.wait()
            listener, device = running.pop(pid)
            if os.waitstatus_to_exitcode(status) == REBOOT:
                running[boot(listener, device)] = (listener, device)
            else:
                print("fake_adbd: the device at %s ended" % device.root, file=sys.stderr)
                os.rmdir(device.mountpoint)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for pid, (_, device) in running.items():
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # ended by the same signal, sent to the whole group
            os.rmdir(device.mountpoint)


if __name__ == "__main__":
    main()
