"""What any program needs: errors, files, the machine, the terminal, optional packages."""
