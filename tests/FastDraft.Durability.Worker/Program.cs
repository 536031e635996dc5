using FastDraft.Durability.Worker;
using FastDraft.Server.Worker;

return args is ["host", .. var rest]
    ? await HostProgram.RunAsync(rest)
    : await WorkerProgram.RunAsync(args, [new MakeStage(), new CopyStage(), new MisbehaveStage()]);
