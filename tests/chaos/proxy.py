"""A TCP proxy in front of a Redis master, to cut it off from its replica, or from everybody.

usage: proxy.py LISTEN_PORT TARGET_PORT
SIGUSR1 drops connections of replicas, present and to come; SIGUSR2 drops all; SIGCONT lets them in again.
"""
import asyncio
import signal
import sys

CUT_NONE, CUT_REPLICAS, CUT_ALL = range(3)


class Proxy:
    def __init__(self, target):
        self.target, self.cut, self.open = target, CUT_NONE, {}

    def set(self, cut):
        self.cut = cut
        for writers, replica in list(self.open.values()):
            if cut == CUT_ALL or cut == CUT_REPLICAS and replica[0]:
                for w in writers:
                    w.transport.abort()

    async def pump(self, reader, writer, replica=None):
        try:
            while data := await reader.read(65536):
                if replica is not None and (b"REPLCONF" in data or b"PSYNC" in data):
                    replica[0] = True
                    if self.cut != CUT_NONE:
                        break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()

    async def serve(self, reader, writer):
        if self.cut == CUT_ALL:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        replica = [False]
        self.open[writer] = ((writer, up_writer), replica)
        await asyncio.gather(self.pump(reader, up_writer, replica), self.pump(up_reader, writer))
        del self.open[writer]


async def main():
    proxy = Proxy(int(sys.argv[2]))
    loop = asyncio.get_running_loop()
    for sig, cut in ((signal.SIGUSR1, CUT_REPLICAS), (signal.SIGUSR2, CUT_ALL), (signal.SIGCONT, CUT_NONE)):
        loop.add_signal_handler(sig, proxy.set, cut)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
