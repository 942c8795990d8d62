"""Signed HTTP between nodes: the logs' way from one node to another.

    ports        what the node implements: records of peers, logs, services
    service      `Federation`, the one object that the node makes
    ── out       sender (one task for each peer) → transport → signer
                 retry and hold say when, discovery and pinning say where and who
    ── in        server → gate (who is asking) → inbox (pushes) or `Services`
                 checkpoint says whether entries are what their owner vouches for,
                 puller fetches what a push shows to be missing
    policy, bucket, answer, refusal, waiting: small parts that several of these use

Only `transport`, `gate`, `server` and `service` know aiohttp.
"""
