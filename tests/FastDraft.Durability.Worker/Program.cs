using FastDraft.Durability.Worker;
using FastDraft.Server.Worker;

return args is ["host", .. var rest]
    ? await HostProgram.RunAsync(rest)
    : args is ["serve", .. var served] ? await HostProgram.ServeAsync(served)
    : await WorkerProgram.RunAsync(args, [new MakeStage(), new CopyStage(), new MeasureStage(), new MisbehaveStage()]);
