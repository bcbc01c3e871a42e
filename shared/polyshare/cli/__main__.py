from polyshare.cli import main

main()
