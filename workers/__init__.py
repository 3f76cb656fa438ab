"""The untrusted side: plugin SDK, worker loop, zygote and sandbox."""
