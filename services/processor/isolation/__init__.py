"""What a worker process is kept from: the network, other processes and files, the pod's secrets.

Files come from strangers, and what parses them may be taken over by one. `rung` has the words,
`cell` puts the layers together, and each other module is one of them. Only the pod and its worker
processes import this package.
"""
