#!/usr/bin/python3
"""A small tool-calling agent. Its model is a script: one JSON object a line, with the tool to call, its
arguments, and what is expected of it ("done", or "refused" for an attack)."""

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import sys
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
# Where structures for system calls are put together.
SCRATCH = ctypes.create_string_buffer(4096)


def syscall(number, *arguments):
    """A system call by number: what code in this process can always make. Bytes are passed by address."""
    for argument in arguments:
        if isinstance(argument, bytes):
            ctypes.memmove(SCRATCH, argument, len(argument))
    arguments = [ctypes.addressof(SCRATCH) if isinstance(one, bytes) else one for one in arguments]
    result = LIBC.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def read_file(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(200)


def write_file(path, text):
    with open(path, "w", encoding="utf-8") as file:
        return file.write(text)


def list_folder(path):
    return sorted(os.listdir(path))[:5]


def ask_service(host, port, text):
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(1000).decode()


def in_threads(count):
    results = []
    threads = [threading.Thread(target=results.append, args=(one,)) for one in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(results)


def evaluate(expression):
    """The tool that should not be: it was meant for arithmetic."""
    return eval(expression, globals())


TOOLS = {
    tool.__name__: tool
    for tool in (read_file, write_file, list_folder, ask_service, in_threads, evaluate)
}


def main():
    wrong = 0
    with open(sys.argv[1], encoding="utf-8") as script:
        calls = [json.loads(os.path.expandvars(line)) for line in script if line.strip()]
    for call in calls:
        try:
            answer = {"result": str(TOOLS[call["tool"]](**call["arguments"]))[:100]}
            outcome = "done"
        except OSError as error:
            answer = {"error": errno.errorcode.get(error.errno, str(error))}
            outcome = "refused"
        right = outcome == call["expect"]
        wrong += not right
        print(json.dumps({"what": call["what"], "outcome": outcome, "right": right, **answer}), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
