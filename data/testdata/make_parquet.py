"""Writes the parquet files of this folder: pip install pyarrow; python make_parquet.py"""

import pyarrow as pa
import pyarrow.parquet as pq

docs = [
    "Once upon a time, there was a little girl named Lily. She liked ½ an apple.",
    "The end.",
    None,
    '  Tom\'s dog said "wow".\n\nThen it ran.  ',
    "",
    "Füße 🦙",
]
pq.write_table(pa.table({"text": docs}), "text.snappy.parquet", compression="snappy", row_group_size=2)
pq.write_table(
    pa.table({"id": list(range(6)), "body": docs, "blob": [b"\xff"] * 6}),
    "body.zstd.parquet", compression="zstd", use_dictionary=False, data_page_version="2.0",
)
pq.write_table(pa.table({"a": docs, "b": docs}), "two.parquet")
pq.write_table(pa.table({"text": [b"good", b"bad \xff byte"]}), "latin.parquet")
