"""Readings around a case, and what they mean. How the rooms below use it:

    sources = open_sources(SourceOptions(wall_url=...))          # source.py; usable, or Absent with the reason
    sampler = Sampler(sources).start()                           # sampler.py; reads until stop()
    idle_s = idle_seconds(sources)                               # wait so long before the model is loaded, then
    idle = sampler.window(start, start, end)                     #   keep these: the baseline of net energy

    sampler.watch(worker.pid)                                    # the engine's process tree, from now on
    settle(lambda: hot(sampler.recent(1.5)), settle_s)           # settle.py; waits for a cool machine (analysis/flags.py: hot)
    was_reset = host.reset_peak(worker.pid); sampler.edge()      # a case begins: new peaks, costly readings
    sampler.edge()                                               # again where its phases begin and end
    readings = sampler.window(t0_ns, first_phase_ns, end_ns)     # CaseResult.readings
    memory = host_memory(readings, worker.pid, was_reset)        # memory.py; CaseResult.host_memory
    found = reading_flags(readings, phases, os.cpu_count())      # analysis/flags.py; CaseResult.flags

    sampler.stop(); telemetry = sampler.report()                 # RunDocument.telemetry

Later, from the document alone: analysis/energy.py: gross_and_net(readings, start_us, end_us, idle), headline,
power_of.
"""
