"""What is kept on disk and how: embeddings, file hashes, sealed and atomic files, digests."""
