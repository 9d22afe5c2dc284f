"""What every room uses: errors, atomic files, versions, memory, processes."""
