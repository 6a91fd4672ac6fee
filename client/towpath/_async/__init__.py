"""The client over asyncio, from which the blocking one is generated."""
