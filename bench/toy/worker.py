"""The toy's worker: `python -m bench.toy.worker ADDRESS` finishes at once whatever it is leased."""

from __future__ import annotations

import sys

import grpc.aio
import uvloop

from bench.toy import messages

CREDIT = 512


async def main(address: str) -> None:
    """One stream, for ever."""
    async with grpc.aio.insecure_channel(address) as channel:
        await messages.unary(channel, "Wait")(messages.Count())
        call = messages.stream(channel, "Work")()
        await call.write(messages.Reports(credit=CREDIT))
        print(address, flush=True)
        async for request in call:
            reports = [messages.Report(id=one.id, token=one.token, result=b"0") for one in request.leases]
            await call.write(messages.Reports(reports=reports))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
