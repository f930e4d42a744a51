"""The half that lives in the serving process. `activate` starts it; every entry passes
`guard`. Imports the standard library, `schema`, `ring` and `samplers` only; grpc and torch
inside the files named after them, once the server itself has imported them."""
