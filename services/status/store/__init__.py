"""The files in MongoDB: documents, indexes, queries and who may see what.

The only package that knows the MongoDB driver. Imports `projection`.
"""
