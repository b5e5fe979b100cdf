from benchmark.report import main

main()
