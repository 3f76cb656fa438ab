"""Several nodes of one chain behind the interface of one: who is healthy (`health`), one member (`node`), all of them
(`pool`, `head`), proof by several of them (`quorum`), and the way around the public ones (`private`).
"""
