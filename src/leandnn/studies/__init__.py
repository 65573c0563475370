"""What a study is, how its runs are made, recorded, and proved to be what today's code makes."""
