"""llama.cpp's own HTTP server (OpenAI-compatible) on 127.0.0.1, for the tests of the openai executor.

usage: serve.py MODEL.gguf PORT [API_KEY]

Needs the package xllamacpp, which .ci/setup installs into .tools/venv. It is ready when GET /health answers 200.
"""

import os
import signal
import sys

import xllamacpp as xlc

params = xlc.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {"smollm2-135m"}
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[2])
params.n_ctx, params.n_parallel = 2048, 1
# The most likely word each time: an answer's length is no matter of luck.
params.sampling.temp = 0.0
# One thread: its threads spin while they wait, and two on a busy two-core machine are a hundred times slower.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.ui = False
if len(sys.argv) > 3:
    params.api_keys = [sys.argv[3]]
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
server = xlc.Server(params)  # Loads the model and starts the server.
print("listening", server.listening_address, flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
os._exit(0)
