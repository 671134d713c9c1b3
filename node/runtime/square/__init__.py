"""The public square: a libp2p host on the node's key, hardened, at which strangers meet the mesh.

libp2p is imported here and nowhere else, and no type of it leaves this folder.
"""
